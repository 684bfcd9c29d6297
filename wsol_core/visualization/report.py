"""Every contact sheet of a data set, from what the stages left in its folder."""

from collections.abc import Iterator
from contextlib import ExitStack
from itertools import chain
from pathlib import Path

from pydantic import ConfigDict, Field

from wsol_core.core import params
from wsol_core.core.errors import InputError
from wsol_core.core.files import SCORED_BOXES, atomic_path, read_table
from wsol_core.core.map_store import MapStore
from wsol_core.core.params import Block
from wsol_core.data.class_masks import ClassMasks
from wsol_core.data.index import TEST, TRAIN_WEAKSUP, read_annotations, read_index
from wsol_core.data.label_masks import LabelMasks
from wsol_core.visualization.class_sheets import heat_maps, segmentations
from wsol_core.visualization.contact_sheets import (
    Draw,
    Report,
    ReportParams,
    draw_boxes,
    draw_image,
    draw_result,
    draw_store,
)
from wsol_core.visualization.detection_sheets import detections, filtered
from wsol_core.visualization.pictures import BLUE, RED, Picture, write_jpeg

LOCALIZATION, DETECTION = "localization", "detection"
LAYER_TITLES = {"spol": "stage {} alone", "fam": "part {}"}
"""By method, titles of the maps that make up a network's map: SPOL Fig. 7 and FAM Fig. 5."""

Sheet = tuple[str, Picture | None]
"""A name and a picture; None where there is nothing to show."""


class _Part(Block):
    """The keys of a block that pictures depend on; its own model has the others."""

    model_config = ConfigDict(extra="ignore")


class _Objectness(_Part):
    sets: tuple[str, ...] = ()
    methods: tuple[str, ...] = ()


class _Network(_Part):
    method: str = ""
    learns_from: str = ""


class _Filter(_Part):
    threshold: float = Field(ge=0, le=1)


class _DetectorNetwork(_Part):
    filter: _Filter | None = None


class _Detector(_Part):
    learns_from: str = ""
    network: _DetectorNetwork


class _Segments(_Part):
    network: str


def write_report(data_set: str, data: Path, pictures: Path) -> None:
    """Write the sheets of a data set.

    Args:
        data_set: `localization` or `detection`.
        data: its folder.
        pictures: the folder of JPEG files, which appears when all are drawn.

    Raises:
        InputError: what a stage makes is missing.
    """
    report = Report(read_index(data / "index.parquet"), params.load(ReportParams, "report"), params.seed())
    with atomic_path(pictures) as folder, ExitStack() as stores:
        folder.mkdir()
        sheets = _Sheets(report, data, stores)
        scored = params.load(_Objectness, "objectness")
        parts = [sheets.objectness(scored.methods if data_set in scored.sets else ())]
        if data_set == LOCALIZATION:
            parts.append(sheets.localization(params.names("methods")))
        if data_set == DETECTION:
            parts += [sheets.heat_maps(), sheets.segmentations(), sheets.detections()]
        for name, picture in chain(*parts):
            if picture is not None:
                write_jpeg(folder / f"{name}.jpg", picture)


def heat_map_stores() -> dict[str, tuple[str, ...]]:
    """By name, the outputs that are compared, in order; an entry that names none stands for the one of its name.

    Raises:
        InputError: they are missing or not names with a line of outputs.
    """
    entries = params.content("heat_maps")
    if not isinstance(entries, dict) or not all(isinstance(text, str) for pair in entries.items() for text in pair):
        raise InputError(f'{params.PARAMS}: heat_maps: {entries!r} is not a list of NAME: "STORE STORE ..."')
    return {name: tuple(stores.split()) or (name,) for name, stores in entries.items()}


class _Sheets:
    """The sheets of one data set, by kind."""

    def __init__(self, report: Report, data: Path, stores: ExitStack) -> None:
        self._report, self._data, self._stores = report, data, stores

    def objectness(self, methods: tuple[str, ...]) -> Iterator[Sheet]:
        """For each method its map and the proposals that it scores highest."""
        for name in methods:
            proposals, _ = read_table(self._data / "objectness" / f"{name}.parquet", SCORED_BOXES)
            columns = {
                "image": draw_image,
                name: self._draw_output(name),
                "top proposals": draw_boxes(proposals, RED, self._report.params.proposals),
            }
            yield f"{name}-objectness", self._report.steps(self._report.choose(TEST), columns)

    def localization(self, methods: tuple[str, ...]) -> Iterator[Sheet]:
        """All steps side by side, each method's best and worst cases, and its layers."""
        annotations = read_annotations(self._data / "truth/annotations.parquet")
        networks = {name: params.load(_Network, f"networks.{name}") for name in params.names("networks")}
        maps = {name: self._draw_output(name) for name in methods}
        boxes = {name: read_table(self._data / "boxes" / f"{name}.parquet", SCORED_BOXES)[0] for name in methods}
        columns = self._steps(maps, networks)
        for name in methods[-1:]:
            columns["box (red), truth (green)"] = draw_result(boxes[name], annotations)
        for split in (TRAIN_WEAKSUP, TEST):
            yield f"steps-{split}", self._report.steps(self._report.choose(split), columns)
        for name, draw in maps.items():
            cases = self._report.cases(boxes[name], annotations, TEST, (draw, draw_result(boxes[name], annotations)))
            yield from zip((f"{name}-best", f"{name}-worst"), cases, strict=False)
            title = LAYER_TITLES.get(networks[name].method if name in networks else "", "layer {}")
            yield f"{name}-layers", self._layers(name, title, draw)

    def heat_maps(self) -> Iterator[Sheet]:
        """Maps of classes of several stores, compared."""
        for name, shown in heat_map_stores().items():
            yield f"{name}-heat-maps", heat_maps(self._report, {store: self._output(store) for store in shown})

    def segmentations(self) -> Iterator[Sheet]:
        """Label masks of all networks side by side, and their cues."""
        names = params.names("segments")
        if names:
            networks = {name: params.load(_Segments, f"segments.{name}").network for name in names}
            cues = {name: Path(params.load(_Network, f"networks.{own}").learns_from) for name, own in networks.items()}
            opened = {name: self._open(path) for name, path in cues.items() if path.suffix == ".h5" and path.exists()}
            masks = {name: LabelMasks(self._data / "segments" / name) for name in names}
            annotations = read_annotations(self._data / "truth/annotations.parquet")
            truth = ClassMasks(self._data / "truth/masks", self._report.index, annotations)
            yield from segmentations(self._report, opened, masks, truth)

    def detections(self) -> Iterator[Sheet]:
        """All detectors side by side, and what each one's filter keeps."""
        detectors = {name: params.load(_Detector, f"detectors.{name}") for name in params.names("detectors")}
        boxes = {name: read_table(self._data / "detections" / f"{name}.parquet", SCORED_BOXES)[0] for name in detectors}
        if boxes:
            annotations = read_annotations(self._data / "truth/annotations.parquet")
            yield "detections", detections(self._report, boxes, annotations)
        for name, entry in detectors.items():
            if entry.network.filter:
                path = Path(entry.learns_from)
                proposals, _ = read_table(path, SCORED_BOXES)
                draw = self._draw_scoring(path.stem)
                yield f"{name}-filter", filtered(self._report, proposals, entry.network.filter.threshold, draw)

    def _steps(self, maps: dict[str, Draw], networks: dict[str, _Network]) -> dict[str, Draw]:
        """A column per step; pseudo labels stand before the maps of the first network that learns from them."""
        columns: dict[str, Draw] = {"image": draw_image}
        columns["pseudo box"] = draw_boxes(read_table(self._data / "pseudo_boxes.parquet", SCORED_BOXES)[0], BLUE)
        for name, draw in maps.items():
            labels = Path(networks[name].learns_from if name in networks else "")
            if labels.parent.name == "targets" and labels.stem not in columns:
                columns[labels.stem] = draw_store(self._open(labels))
            columns[name] = draw
        return columns

    def _layers(self, name: str, title: str, whole: Draw) -> Picture | None:
        """A column per map that makes up a network's map, and that map itself."""
        path = self._data / "outputs" / name / "layers.h5"
        if not path.exists():
            return None
        store = self._open(path)
        layers = {title.format(k + 1): draw_store(store, k) for k in sorted(set(store.labels.tolist()))}
        images = self._report.choose(TEST, store.image_ids.tolist())
        return self._report.steps(images, {"image": draw_image, **layers, name: whole})

    def _draw_scoring(self, name: str) -> Draw:
        """What objectness `name` comes from: an oracle's targets, or a method's maps."""
        oracle = self._data / "targets" / f"{name}.h5"
        return draw_store(self._open(oracle)) if oracle.exists() else self._draw_output(name)

    def _draw_output(self, name: str) -> Draw:
        return draw_store(self._output(name))

    def _output(self, name: str) -> MapStore:
        return self._open(self._data / "outputs" / name / "maps.h5")

    def _open(self, path: Path) -> MapStore:
        return self._stores.enter_context(MapStore(path))
