"""The kinds of tables, one for each thing that is measured, and the files `ablations/TABLE.yaml`."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import ClassVar, Literal, Self, TypeVar

from pydantic import ValidationError, model_validator

from wsol_core.ablations.definition import Column, Figures, Name, Read, Row, Table
from wsol_core.ablations.overrides import Overrides
from wsol_core.core.errors import InputError, nearest
from wsol_core.core.texts import read_yaml
from wsol_core.data.index import TRAIN_WEAKSUP

FOLDER = Path("ablations")

T = TypeVar("T")


class LocalizationTable(Table):
    """Boxes of one object."""

    TOP: ClassVar = ("top1_loc", "top1_loc_low", "top1_loc_high", "top5_loc")
    figures = (
        "gt_known", "gt_known_low", "gt_known_high", "gt_known_fullsup", "gt_known_oracle", "centre_box", "threshold",
        "mean_iou", "max_box_acc_v2", *TOP,
    )  # fmt: skip
    baseline = ("the best centred box has", "centre_box")

    measure: Literal["localization"] = "localization"
    classifier: str | None = None
    """classifier for Top-1 and Top-5; none for GT-known alone"""
    pairs: tuple[tuple[Name, Name], ...] = ()
    """rows that are compared, the first with the second"""

    @model_validator(mode="after")
    def _pairs_are_rows(self) -> Self:
        for name in (name for pair in self.pairs for name in pair):
            if name not in self.rows_by_name():
                raise ValueError(f"pairs: no row {name!r}{nearest(name, self.rows_by_name())}")
        return self

    def columns(self) -> Sequence[Column]:
        """GT-known; with a classifier Top-1 and Top-5 too."""
        located = (
            Column("GT-known", "gt_known"),
            Column("of the images learnt from", "gt_known", in_paper=False, split=TRAIN_WEAKSUP),
            Column("mean IoU", "mean_iou", "three", in_paper=False),
            Column("MaxBoxAccV2", "max_box_acc_v2", in_paper=False),
            Column("at best of split", "gt_known_oracle", in_paper=False),
            Column("threshold", "threshold", "share", in_paper=False),
        )
        return (*located, Column("Top-1", "top1_loc"), Column("Top-5", "top5_loc")) if self.classifier else located

    def evaluated(self, methods: Sequence[str]) -> Overrides:
        """The methods alone."""
        return {"methods": list(methods)}

    def targets(self, row: Row) -> list[str]:
        """Those of boxes, and of classes with a classifier."""
        return super().targets(row) + ([f"evaluate_classification@{self.classifier}"] if self.classifier else [])

    def read_figures(self, row: Row, read: Read) -> Figures:
        """Those of boxes with the bounds of their interval, and Top-1 and Top-5 of the classifier."""
        classified = read(f"classification/{self.classifier}.json") if self.classifier else {}
        figures = {}
        for split, found in super().read_figures(row, read).items():
            low, high = found.get("gt_known_interval") or (found.get("gt_known_low"), found.get("gt_known_high"))
            own = classified.get(split, {}).get("methods", {}).get(self.method_of(row), {})
            top = {name: own.get(name) for name in self.TOP}
            figures[split] = found | {"gt_known_low": low, "gt_known_high": high} | top
        return figures


class HeatMapTable(Table):
    """Maps of several classes, their saliency and their peaks; a method is a map store."""

    figures = ("saliency_ap", "saliency_ap_boxes", "point_map", "point_map_centre", "peak_pixels", "peak_diagonals")

    measure: Literal["heat_maps"]
    peaks_from: str | None = None
    """the store from whose peaks a method's distance is measured; none for no distance"""

    def columns(self) -> Sequence[Column]:
        """Saliency AP and point mAP; the distance of peaks where it is measured."""
        columns = (
            Column("saliency AP", "saliency_ap"),
            Column("against boxes", "saliency_ap_boxes", in_paper=False),
            Column("point mAP", "point_map"),
            Column("of image centres", "point_map_centre", in_paper=False),
        )
        return (*columns, Column("peaks apart", "peak_pixels", "pixels")) if self.peaks_from else columns

    def evaluated(self, methods: Sequence[str]) -> Overrides:
        """An entry of each method's name, beside those that the preset has."""
        return {f"heat_maps.{each}": " ".join(dict.fromkeys((self.peaks_from or each, each))) for each in methods}

    def read_figures(self, row: Row, read: Read) -> Figures:
        """Those of the method's store, and its distance."""
        method, figures = self.method_of(row), {}
        for split, found in super().read_figures(row, read).items():
            apart = found["peak_distance"].get(f"{self.peaks_from} to {method}", {})
            distance = {"peak_pixels": apart.get("pixels"), "peak_diagonals": apart.get("diagonals")}
            if method in found["stores"]:
                figures[split] = found["stores"][method] | distance
        return figures


class SegmentationTable(Table):
    """Label masks."""

    figures = ("miou", "miou_low", "miou_high")

    measure: Literal["segmentation"]

    def columns(self) -> Sequence[Column]:
        """Mean IoU."""
        return (Column("mIoU", "miou"),)

    def evaluated(self, methods: Sequence[str]) -> Overrides:
        """The methods' masks alone."""
        return {"segments": list(methods)}


class DetectionTable(Table):
    """Detectors: mAP of each split, and CorLoc of the training images."""

    figures = (
        "ap_voc07", "ap_voc07_low", "ap_voc07_high", "ap_voc10", "corloc", "corloc_low", "corloc_high",
        "whole_image_ap_voc07", "best_proposal_ap_voc07", "whole_image_corloc", "best_proposal_corloc",
    )  # fmt: skip
    baseline = ("the best single proposal by objectness has", "best_proposal_ap_voc07")

    measure: Literal["detection"]

    def columns(self) -> Sequence[Column]:
        """VOC07's mAP and CorLoc, both beside those of whole images in the classes that the detector says."""
        return (
            Column("mAP", "ap_voc07"),
            Column("whole images", "whole_image_ap_voc07", in_paper=False),
            Column("CorLoc (train)", "corloc", in_paper=False),
            Column("whole images", "whole_image_corloc", in_paper=False),
        )

    def evaluated(self, methods: Sequence[str]) -> Overrides:
        """The detectors alone."""
        return {"detections": list(methods)}

    def read_figures(self, row: Row, read: Read) -> Figures:
        """Those of each split, CorLoc of the training images in place of its own."""
        figures = super().read_figures(row, read)
        trained = figures.get(TRAIN_WEAKSUP, {})
        corloc = {name: trained.get(name) for name in self.figures if "corloc" in name}
        return {split: found | corloc for split, found in figures.items()}


MEASURES: dict[str, type[Table]] = {
    "localization": LocalizationTable, "heat_maps": HeatMapTable, "segmentation": SegmentationTable,
    "detection": DetectionTable,
}  # fmt: skip


def read_tables(project: Path = Path()) -> dict[str, Table]:
    """The tables of `ablations/`, by name.

    Raises:
        InputError: a file is not a table.
    """
    return {path.stem: _read(path) for path in sorted((project / FOLDER).glob("*.yaml"), key=lambda path: path.stem)}


def _read(path: Path) -> Table:
    content = read_yaml(path)
    try:
        content = {"name": path.stem, "measure": "localization"} | content
        return pick(MEASURES, [str(content["measure"])], "measure")[0].model_validate(content)
    except ValidationError as error:
        first = error.errors()[0]
        raise InputError(f"{path}: {'.'.join(map(str, first['loc'])) or 'rows'}: {first['msg']}") from error
    except TypeError as error:
        raise InputError(f"{path}: not a table of `key: value` lines ({error})") from error
    except InputError as error:
        raise InputError(f"{path}: {error}") from error


def pick(known: Mapping[str, T], names: Sequence[str], kind: str) -> list[T]:
    """The values of `names`.

    Raises:
        InputError: a name is unknown; the message names the nearest.
    """
    for name in names:
        if name not in known:
            raise InputError(f"no {kind} {name!r}{nearest(name, known)} (there are: {', '.join(known)})")
    return [known[name] for name in names]
