"""What exports have in common: what they may not replace, and what tells an exported file or folder."""

import json
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

from wsol_core.core.written_files import output_folder

MARK = "wsol export"
"""Names the command, in a COCO file and in a folder's note."""
CSV_COLUMNS = ("image_id", "path", "split", "width", "height", "x0", "y0", "x1", "y1", "score", "label")
"""The header of a CSV file."""
NOTE = "wsol-export.json"
"""Says what is in an exported folder."""
INPUTS = (Path("data"), Path("params.yaml"))
"""What exports are made of."""


@contextmanager
def exported_folder(path: Path, overwrite: bool, note: Mapping[str, object]) -> Iterator[Path]:
    """Yield a temporary folder whose files go to `path`; `note` says what they are, in `wsol-export.json`.

    Raises:
        InputError: a file would replace the user's, and `overwrite` is not set, or an input.
    """
    with output_folder(path, MARK, overwrite, INPUTS, [NOTE]) as folder:
        yield folder
        text = json.dumps({"made_by": MARK, **note}, indent=2, sort_keys=True)
        (folder / NOTE).write_text(text + "\n", encoding="utf-8")
