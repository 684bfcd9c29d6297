"""Pages of results, `docs/results/PRESET.md`: what stands between markers is written by commands, the rest by hand."""

import re
from collections.abc import Mapping
from pathlib import Path

from wsol_core.core.errors import InputError
from wsol_core.core.files import atomic_path

FOLDER = Path("docs/results")


def rewrite(preset: str, blocks: Mapping[str, str], project: Path = Path()) -> None:
    """Put blocks of Markdown between `<!-- NAME -->` and `<!-- /NAME -->` of a preset's page; new ones go to the end.

    Args:
        preset: whose page it is; it is made where there is none.
        blocks: by name.
        project: the project's root.

    Raises:
        InputError: a block is opened and not closed.
    """
    path = project / FOLDER / f"{preset}.md"
    text = path.read_text(encoding="utf-8") if path.exists() else f"# {preset}\n"
    for name, content in blocks.items():
        text = _with_block(path, text, name, content)
    with atomic_path(path) as temporary:
        temporary.write_text(text, encoding="utf-8")


def _with_block(path: Path, text: str, name: str, content: str) -> str:
    opening, closing = f"<!-- {name} -->", f"<!-- /{name} -->"
    old = re.search(rf"{re.escape(opening)}.*?{re.escape(closing)}", text, re.DOTALL)
    if old is None and opening in text:
        raise InputError(f"{path}: `{opening}` has no `{closing}` after it")
    before, after = (text[: old.start()], text[old.end() :]) if old else (f"{text}\n", "\n")
    return f"{before}{opening}\n{content}\n{closing}{after}"
