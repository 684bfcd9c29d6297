"""Where a killed stage left off: a folder named by everything that decides the stage's result, deleted on success."""

import hashlib
import json
import os
import shutil
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path

from wsol_core.core.params import Block

PROJECT = Path(__file__).resolve().parents[2]
READ_WHOLE = 1 << 26


@contextmanager
def scratch_folder(
    stage: str, params: Mapping[str, Block], inputs: Sequence[Path], seed: int = 0, precision: str = ""
) -> Iterator[Path]:
    """Yield the stage's scratch folder; delete it when the block ends well, keep it for the next run otherwise.

    Its name is a digest of the parameters, the seed, the precision that runs, the inputs and the project's code that is
    loaded, so that a crash resumes and any change starts afresh. Inputs of more than `READ_WHOLE` bytes, such as
    feature stores, are known by size and time instead of their bytes. It lies under `WSOL_SCRATCH` (default `.wsol`).
    """
    digest = hashlib.blake2b(digest_size=16)
    described = {name: block.model_dump(mode="json") for name, block in params.items()}
    digest.update(json.dumps([described, seed, precision], sort_keys=True).encode())
    for path in (*inputs, *_loaded_code()):
        digest.update(_identity(path))
    folder = Path(os.environ.get("WSOL_SCRATCH", ".wsol")) / f"{stage}-{digest.hexdigest()}"
    folder.mkdir(parents=True, exist_ok=True)
    yield folder
    shutil.rmtree(folder, ignore_errors=True)


def _identity(path: Path) -> bytes:
    status = path.stat()
    if status.st_size > READ_WHOLE:
        return f"{status.st_size} {status.st_mtime_ns}".encode()
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").digest()


def _loaded_code() -> list[Path]:
    files = (getattr(module, "__file__", None) for module in list(sys.modules.values()))
    paths = (Path(file).resolve() for file in files if file)
    own = {path for path in paths if path.is_relative_to(PROJECT) and path.is_file()}
    return sorted(path for path in own if path.relative_to(PROJECT).parts[0] != ".venv")
