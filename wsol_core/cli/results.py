"""The figures of the workspace, as the stages `evaluate_...` left them under `results/PRESET`."""

import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

from wsol_core.ablations.pages import rewrite
from wsol_core.core.errors import InputError
from wsol_core.core.texts import read_json

TOP = ("top1_loc", "top5_loc")
FIGURES = ("gt_known", "gt_known_fullsup", "gt_known_oracle", "centre_box", "threshold", *TOP, "calibrated_by")
HEADER = (
    "method", "split", "GT-known", "GT-known, threshold from DDT's boxes", "Top-1", "Top-5", "at best of fullsup",
    "at best of split", "centre box", "threshold", "MaxBoxAccV2", "PxAP",
)  # fmt: skip
PSEUDO_BOXES = "pseudo_boxes"
SPLIT_ORDER = ("test", "train-fullsup", "train-weaksup")
STORE_FIGURES = ("saliency_ap", "saliency_ap_boxes", "point_map", "point_map_centre")
SEGMENTATION = "segmentation"
KINDS = ("localization", "heat_maps", "segmentation", "detection", "proposals")
DETECTION_FIGURES = (
    "ap_voc07", "ap_voc07_low", "ap_voc07_high", "ap_voc10", "whole_image_ap_voc07", "best_proposal_ap_voc07",
    "corloc", "corloc_low", "corloc_high", "whole_image_corloc", "best_proposal_corloc",
)  # fmt: skip
RECALLS = tuple(f"{name}_{count}" for name in ("recall", "average_recall") for count in (100, 300, 500, 2000))

Figures = dict[str, dict[str, dict[str, Any]]]
"""Method -> split -> name -> value."""
Cells = tuple[str, ...]


@dataclass(frozen=True)
class Results:
    """The metrics files of a preset, whole, in order of their names."""

    localization: Figures
    """with `top1_loc` and `top5_loc` of the classifier whose name comes first"""
    heat_maps: Figures
    """by entry of `heat_maps` and split: figures by store, distances of peaks by pair of stores"""
    segmentation: Figures
    detection: Figures
    proposals: dict[str, Figures]
    """by data set, source and split"""


class Section(NamedTuple):
    """A table: texts first, as many as `words`, then figures."""

    title: str
    header: Cells
    words: int
    rows: list[Cells]


def read_results(preset: str, project: Path = Path()) -> Results:
    """The metrics files of a preset.

    Raises:
        InputError: there are none, or one is damaged.
    """
    folder = project / "results" / preset
    results = Results(*(_read_folder(folder / kind) for kind in KINDS))
    if not any(vars(results).values()):
        raise InputError(f"results/{preset}: no results of preset {preset!r} yet; run `make repro`")
    classifiers = _read_folder(folder / "classification")
    classified = next(iter(classifiers.values())) if classifiers else {}
    for method, splits in results.localization.items():
        for split, found in splits.items():
            top = classified.get(split, {}).get("methods", {}).get(method, {})
            found |= {name: top[name] for name in TOP if name in top}
    return results


def _read_folder(folder: Path) -> dict[str, Any]:
    """The content of its JSON files by name, in order."""
    results = {}
    for path in sorted(folder.glob("*.json")):
        try:
            content = read_json(path)
        except InputError as error:
            raise InputError(f"{error}; run `make repro` again") from error
        if not _are_figures(content, 3 if folder.name == "proposals" else 2):
            raise InputError(f"{path}: no figures by split; run `make repro` again")
        results[path.stem] = content
    return results


def _are_figures(content: Any, levels: int) -> bool:
    """Whether they are mappings down to so many levels; the last are those of splits."""
    return not levels or (isinstance(content, dict) and all(_are_figures(own, levels - 1) for own in content.values()))


def as_json(results: Results, segmentation: str) -> str:
    """The figures as the tables have them, between 0 and 1 or in pixels, null where there is none.

    `localization`: those named in `FIGURES` of every method and split, where `segmentation` stands for the method of
    this name. Where the preset has them, `heat_maps`: by split, those in `STORE_FIGURES` of each store and the
    distances of their peaks; `segmentation`: `miou`; `detection`: those in `DETECTION_FIGURES` of every detector and
    split; `proposals`: those in `RECALLS`, by data set, source and split.
    """
    located = results.localization
    methods = located | ({SEGMENTATION: located[segmentation]} if segmentation in located else {})
    figures: dict[str, Any] = {"localization": _chosen(dict(sorted(methods.items())), FIGURES)}
    if results.heat_maps:
        figures["heat_maps"] = {
            name: {
                split: _chosen({"stores": found["stores"]}, STORE_FIGURES) | {"peak_distance": found["peak_distance"]}
                for split, found in splits.items()
            }
            for name, splits in results.heat_maps.items()
        }
    if results.segmentation:
        figures["segmentation"] = _chosen(results.segmentation, ("miou",))
    if results.detection:
        figures["detection"] = _chosen(results.detection, DETECTION_FIGURES)
    if results.proposals:
        figures["proposals"] = {name: _chosen(sources, RECALLS) for name, sources in results.proposals.items()}
    return json.dumps(figures, indent=2)


def _chosen(figures: Figures, names: Sequence[str]) -> dict[str, dict[str, Any]]:
    return {
        outer: {inner: {name: found.get(name) for name in names} for inner, found in values.items()}
        for outer, values in figures.items()
    }


def sections(results: Results) -> list[Section]:
    """The tables with figures, in percent: of boxes, heat maps, their peaks, segmentations, detectors, proposals.

    Rows of the test split come first.
    """
    stores = ("heat maps", "split", "store", "saliency AP", "against boxes", "point mAP", "of image centres")
    peaks = ("heat maps", "split", "peaks", "pixels", "of the diagonal")
    detectors = (
        "detector", "split", "mAP", "all points", "whole image", "best proposal", "CorLoc", "whole image",
        "best proposal",
    )  # fmt: skip
    sources = ("set", "proposals", "split", *(name.replace("_", " ") for name in RECALLS))
    found = (
        ("share of images with IoU > 0.5, in percent", HEADER, 2, _located(results.localization)),
        ("heat maps, in percent", stores, 3, _stores(results.heat_maps)),
        ("distance of peaks", peaks, 3, _peaks(results.heat_maps)),
        ("segmentation, in percent", ("method", "split", "mIoU"), 2, _segmented(results.segmentation)),
        ("detection, in percent", detectors, 2, _detected(results.detection)),
        ("recall of proposals, in percent", sources, 3, _recalled(results.proposals)),
    )
    tables = (Section(title, header, words, _test_first(header, rows)) for title, header, words, rows in found)
    return [table for table in tables if table.rows]


def _test_first(header: Cells, rows: Iterator[Cells]) -> list[Cells]:
    column = header.index("split")
    known = {split: place for place, split in enumerate(SPLIT_ORDER)}
    return sorted(rows, key=lambda row: known.get(row[column], len(known)))


def _located(figures: Figures) -> Iterator[Cells]:
    """The calibrated figure with its 95 % interval, in the column of what calibrated it, and others."""
    for method, splits in figures.items():
        for split, found in splits.items():
            threshold, calibrated = found.get("threshold"), _with_interval(found, "gt_known")
            by_boxes = found.get("calibrated_by", PSEUDO_BOXES) == PSEUDO_BOXES
            others = (_percent(found.get(name)) for name in (*TOP, *FIGURES[1:4]))
            pixels = (_percent(found.get(name)) for name in ("max_box_acc_v2", "px_ap"))
            threshold_cell = "-" if threshold is None else f"{threshold:.3g}"
            pair = ("-", calibrated) if by_boxes else (calibrated, "-")
            yield method, split, *pair, *others, threshold_cell, *pixels


def _stores(figures: Figures) -> Iterator[Cells]:
    for name, splits in figures.items():
        for split, found in splits.items():
            for store, own in found["stores"].items():
                yield name, split, store, *(_percent(own.get(each)) for each in STORE_FIGURES)


def _peaks(figures: Figures) -> Iterator[Cells]:
    for name, splits in figures.items():
        for split, found in splits.items():
            for pair, apart in found["peak_distance"].items():
                pixels = apart["pixels"]
                yield name, split, pair, "-" if pixels is None else f"{pixels:.0f}", _percent(apart["diagonals"])


def _segmented(figures: Figures) -> Iterator[Cells]:
    for method, splits in figures.items():
        for split, found in splits.items():
            yield method, split, _with_interval(found, "miou")


def _detected(figures: Figures) -> Iterator[Cells]:
    """Average precision and CorLoc with their 95 % intervals, each beside those of its baselines."""
    for name, splits in figures.items():
        for split, found in splits.items():
            ap = (_percent(found.get(each)) for each in ("ap_voc10", "whole_image_ap_voc07", "best_proposal_ap_voc07"))
            correct = (_percent(found.get(each)) for each in ("whole_image_corloc", "best_proposal_corloc"))
            yield name, split, _with_interval(found, "ap_voc07"), *ap, _with_interval(found, "corloc"), *correct


def _recalled(figures: dict[str, Figures]) -> Iterator[Cells]:
    for data_set, sources in figures.items():
        for source, splits in sources.items():
            for split, found in splits.items():
                yield data_set, source, split, *(_percent(found.get(name)) for name in RECALLS)


def as_markdown(results: Results) -> str:
    """A Markdown table for each section, an empty line between."""
    return "\n\n".join(_table(section) for section in sections(results))


def _table(section: Section) -> str:
    rule = (*["---"] * section.words, *["---:"] * (len(section.header) - section.words))
    return "\n".join(f"| {' | '.join(cells)} |" for cells in (section.header, rule, *section.rows))


def write_pages(project: Path = Path()) -> list[str]:
    """Rewrite the block `results:PRESET` of the page of each preset that has results.

    Returns:
        The presets.

    Raises:
        InputError: a metrics file is damaged, or a block is opened and not closed.
    """
    presets = [path.name for path in sorted((project / "results").glob("*")) if _has_results(project, path.name)]
    for preset in presets:
        tables = sections(read_results(preset, project))
        parts = [f"### {table.title[0].upper()}{table.title[1:]}\n\n{_table(table)}" for table in tables]
        rewrite(preset, {f"results:{preset}": "\n\n".join(["## Figures", *parts])}, project)
    return presets


def _has_results(project: Path, preset: str) -> bool:
    return any((project / "results" / preset / kind).is_dir() for kind in KINDS)


def _percent(figure: float | None) -> str:
    return "-" if figure is None else f"{100 * figure:.1f}"


def _with_interval(found: dict[str, Any], name: str) -> str:
    low, high = found.get(f"{name}_interval") or (found.get(f"{name}_low"), found.get(f"{name}_high"))
    figure = _percent(found.get(name))
    return figure if low is None else f"{figure} ({_percent(low)} to {_percent(high)})"
