"""BC-CT's background images (3.1): pictures that show none of the classes."""

import re
from collections.abc import Sequence
from pathlib import PurePosixPath


def folders_of_classes(paths: Sequence[str], classes: Sequence[str]) -> list[str]:
    """The folders of `paths` that bear a class's name, sorted; case, digits and punctuation do not count.

    Example:
        >>> folders_of_classes(["001.Grey_Gull/a.jpg", "sky/b.jpg"], ["grey gull"])
        ['001.Grey_Gull']
    """
    known = {_letters(name) for name in classes} - {""}
    folders = {folder for path in paths for folder in PurePosixPath(path).parts[:-1]}
    return sorted(folder for folder in folders if _letters(folder) in known)


def _letters(name: str) -> str:
    return re.sub(r"[\W\d_]+", "", name.casefold())
