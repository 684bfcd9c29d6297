"""Where the pictures are that a list of a data set names, and what they are called."""

from collections import Counter
from collections.abc import Sequence
from pathlib import Path, PurePosixPath
from typing import NamedTuple

from wsol_core.data.paths import below, has_file, image_ids

SAMPLE = 100
"""How many of a list's pictures are looked for to know its folder."""
USUAL_FOLDER = "images"


class Named(NamedTuple):
    """A picture as its list names it, with `/` between folders, and its path relative to the root."""

    name: str
    path: str


def find_pictures(root: Path, names: Sequence[str], folders: Sequence[str], follow_links: bool = False) -> list[Named]:
    """The pictures that one list names, all counted from one of `folders`.

    The folder is the one that holds most of the first `SAMPLE`, the first of several; where none holds any, `images/`
    if there is one, else the root. A back-slash counts as `/` where no file has it in its name.
    """
    sample = names[:SAMPLE]
    held = [sum(_is_there(root, folder, name, follow_links) for name in sample) for folder in folders]
    usual = USUAL_FOLDER if (root / USUAL_FOLDER).is_dir() else ""
    folder = folders[held.index(max(held))] if any(held) else usual
    return [_named(root, folder, name, follow_links) for name in names]


def picture_ids(pictures: Sequence[Named]) -> list[str]:
    """The ids of a set's pictures: their names without suffix, and without `images/` in front; `//` counts as `/`.

    Where two pictures of one name lie in different folders (the same name in two splits), their paths count instead.

    Example:
        >>> picture_ids([Named("a.jpg", "train/a.jpg"), Named("a.jpg", "val/a.jpg"), Named("b.jpg", "val/b.jpg")])
        ['train/a', 'val/a', 'b']
    """
    pictures = [Named(str(PurePosixPath(name)), path) for name, path in pictures]
    uses = Counter(picture.name for picture in set(pictures))
    chosen = [picture.path if uses[picture.name] > 1 else picture.name for picture in pictures]
    return image_ids([name.removeprefix(f"{USUAL_FOLDER}/") for name in chosen])


def _is_there(root: Path, folder: str, name: str, follow_links: bool) -> bool:
    return has_file(root, _named(root, folder, name, follow_links).path, follow_links)


def _named(root: Path, folder: str, name: str, follow_links: bool) -> Named:
    path = below(folder, name)
    if "\\" in name and not has_file(root, path, follow_links):
        slashed = name.replace("\\", "/")
        if has_file(root, below(folder, slashed), follow_links):
            return Named(slashed, below(folder, slashed))
    return Named(name, path)
