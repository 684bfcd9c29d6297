"""The figures of the workspace, as the stages `evaluate_...` left them under `results/PRESET`."""

import json
import re
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from wsol_core.errors import InputError
from wsol_core.files import atomic_path

TOP = ("top1_loc", "top5_loc")
FIGURES = ("gt_known", "gt_known_fullsup", "gt_known_oracle", "centre_box", "threshold", *TOP)
HEADER = (
    "method", "split", "GT-known", "Top-1", "Top-5", "at best of fullsup", "at best of split", "centre box",
    "threshold", "MaxBoxAccV2", "PxAP",
)  # fmt: skip
SEGMENTATION = "segmentation"

Figures = dict[str, dict[str, dict[str, Any]]]
"""Method -> split -> name -> value."""


def read_results(preset: str, project: Path = Path()) -> Figures:
    """The metrics files of a preset, whole, in order of the methods' names.

    `top1_loc` and `top5_loc` are those with the classifier whose name comes first.

    Raises:
        InputError: there are none, or one is damaged.
    """
    results = _read_folder(project / "results" / preset / "localization")
    if not results:
        raise InputError(f"results/{preset}/localization: no results of preset {preset!r} yet; run `make repro`")
    classifiers = _read_folder(project / "results" / preset / "classification")
    classified = next(iter(classifiers.values())) if classifiers else {}
    for method, splits in results.items():
        for split, found in splits.items():
            top = classified.get(split, {}).get("methods", {}).get(method, {})
            found |= {name: top[name] for name in TOP if name in top}
    return results


def _read_folder(folder: Path) -> dict[str, Any]:
    """The content of its JSON files by name, in order."""
    results = {}
    for path in sorted(folder.glob("*.json")):
        try:
            results[path.stem] = json.loads(path.read_text(encoding="utf-8"))
        except ValueError as error:
            raise InputError(f"{path}: not valid JSON; run `make repro` again") from error
    return results


def as_json(results: Figures, sources: Sequence[str]) -> str:
    """The figures named in `FIGURES` of every method and split, between 0 and 1, null where there is none.

    `segmentation` stands for the segmentation learnt from the first of `sources`.
    """
    first = f"{SEGMENTATION}-{sources[0]}" if sources else ""
    methods = results | ({SEGMENTATION: results[first]} if first in results else {})
    figures = {
        method: {split: {name: found.get(name) for name in FIGURES} for split, found in splits.items()}
        for method, splits in sorted(methods.items())
    }
    return json.dumps({"localization": figures}, indent=2)


def rows(results: Figures) -> Iterator[tuple[str, ...]]:
    """The cells under `HEADER`: figures in percent, the calibrated one with its 95 % interval."""
    for method, splits in results.items():
        for split, found in splits.items():
            threshold = found.get("threshold")
            others = (_percent(found.get(name)) for name in (*TOP, *FIGURES[1:4]))
            pixels = (_percent(found.get(name)) for name in ("max_box_acc_v2", "px_ap"))
            threshold_cell = "-" if threshold is None else f"{threshold:.3f}"
            yield method, split, _with_interval(found), *others, threshold_cell, *pixels


def as_markdown(results: Figures) -> str:
    """A Markdown table."""
    rule = ("---", "---", *["---:"] * (len(HEADER) - 2))
    return "\n".join(f"| {' | '.join(cells)} |" for cells in (HEADER, rule, *rows(results)))


def update_readme(project: Path = Path()) -> list[str]:
    """Rewrite the tables between `<!-- results:PRESET -->` and `<!-- /results:PRESET -->` in `README.md`.

    Returns:
        The presets whose tables the README holds.

    Raises:
        InputError: a block is opened and not closed.
    """
    path = project / "README.md"
    text = path.read_text(encoding="utf-8")
    presets = [preset for preset in re.findall(r"<!-- results:([\w.-]+) -->", text) if _has_results(project, preset)]
    for preset in presets:
        text = _with_table(text, preset, as_markdown(read_results(preset, project)))
    with atomic_path(path) as temporary:
        temporary.write_text(text, encoding="utf-8")
    return presets


def _with_table(text: str, preset: str, table: str) -> str:
    opening, closing = f"<!-- results:{preset} -->\n", f"<!-- /results:{preset} -->"
    before, _, rest = text.partition(opening)
    _, end, after = rest.partition(closing)
    if not end:
        raise InputError(f"README.md: `{opening.strip()}` has no `{closing}` after it")
    return f"{before}{opening}{table}\n{end}{after}"


def _has_results(project: Path, preset: str) -> bool:
    return (project / "results" / preset / "localization").is_dir()


def _percent(figure: float | None) -> str:
    return "-" if figure is None else f"{100 * figure:.1f}"


def _with_interval(found: dict[str, Any]) -> str:
    low, high = found.get("gt_known_interval") or (found.get("gt_known_low"), found.get("gt_known_high"))
    figure = _percent(found.get("gt_known"))
    return figure if low is None else f"{figure} ({_percent(low)} to {_percent(high)})"
