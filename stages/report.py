"""Contact sheets of every step and of each method's best and worst cases: `python -m stages.report SET`."""

from collections.abc import Iterator
from contextlib import ExitStack
from itertools import chain
from pathlib import Path

from wsol_core.core import params
from wsol_core.core.errors import run_stage
from wsol_core.core.files import atomic_path, read_table
from wsol_core.core.map_store import MapStore
from wsol_core.data.class_masks import ClassMasks
from wsol_core.data.index import TEST, TRAIN_WEAKSUP, read_annotations, read_index
from wsol_core.data.label_masks import LabelMasks
from wsol_core.proposals.objectness import ObjectnessParams
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
SEGMENTATION = "segmentation-"
LAYERS = {"branches": "stage {} alone", "parts": "part {}"}
"""Map stores with several maps per image, and the titles of their columns: SPOL Fig. 7 and FAM Fig. 5."""


def main(data_set: str) -> None:
    """Write the JPEGs of `results/PRESET/pictures/SET`."""
    block, methods, scored = params.load(ReportParams, "report"), params.methods(), _scored_by(data_set)
    data, pictures = Path("data") / data_set, Path("results") / params.preset() / "pictures" / data_set
    report = Report(read_index(data / "index.parquet"), block, params.seed())
    with atomic_path(pictures) as folder, ExitStack() as stores:
        folder.mkdir()
        sheets = [_objectness(report, data, scored, stores)]
        if data_set == LOCALIZATION:
            sheets.append(_localization(report, data, methods, stores))
        if data_set == DETECTION:
            sheets += [draw(report, data, stores) for draw in (_heat_maps, _segmentations, _detections)]
        for name, picture in chain(*sheets):
            write_jpeg(folder / f"{name}.jpg", picture)


def _scored_by(data_set: str) -> tuple[str, ...]:
    block = params.load(ObjectnessParams, "objectness")
    return block.methods if data_set in block.sets else ()


def _localization(
    report: Report, data: Path, methods: tuple[str, ...], stores: ExitStack
) -> Iterator[tuple[str, Picture]]:
    annotations = read_annotations(data / "annotations.parquet")
    maps = {name: _open(data / "maps" / f"{name}.h5", stores) for name in methods}
    boxes = {name: read_table(data / "boxes" / f"{name}.parquet")[0] for name in methods}
    columns = _columns(data, maps, stores)
    for name in methods[-1:]:
        columns["box (red), truth (green)"] = draw_result(boxes[name], annotations)
    for split in (TRAIN_WEAKSUP, TEST):
        picture = report.steps(report.choose(split), columns)
        if picture is not None:
            yield f"steps-{split}", picture
    for name, draw in maps.items():
        cases = report.cases(boxes[name], annotations, TEST, (draw, draw_result(boxes[name], annotations)))
        yield from zip((f"{name}-best", f"{name}-worst"), cases, strict=False)
        for kind, title in LAYERS.items():
            picture = _layers(report, data / kind / f"{name}.h5", title, {name: draw}, stores)
            if picture is not None:
                yield f"{name}-{kind}", picture


def _layers(report: Report, path: Path, title: str, whole: dict[str, Draw], stores: ExitStack) -> Picture | None:
    """A column per map of an image, for methods that have several, and the map that they make up."""
    if not path.exists():
        return None
    store = stores.enter_context(MapStore(path))
    layers = {title.format(k + 1): draw_store(store, k) for k in sorted(set(store.labels.tolist()))}
    return report.steps(report.choose(TEST, store.image_ids.tolist()), {"image": draw_image, **layers, **whole})


def _columns(data: Path, maps: dict[str, Draw], stores: ExitStack) -> dict[str, Draw]:
    """A column per step; the pseudo mask and the labels stand before the maps of the model trained on them."""
    columns: dict[str, Draw] = {"image": draw_image}
    columns["pseudo box"] = draw_boxes(read_table(data / "pseudo_boxes.parquet")[0], BLUE)
    for name, draw in maps.items():
        if name == "foreground":
            columns["pseudo mask"] = _open(data / "pseudo_masks.h5", stores)
        if name.startswith(SEGMENTATION):
            source = name.removeprefix(SEGMENTATION)
            columns[f"labels from {source}"] = _open(data / "labels" / f"{source}.h5", stores)
        columns[name] = draw
    return columns


def _objectness(
    report: Report, data: Path, methods: tuple[str, ...], stores: ExitStack
) -> Iterator[tuple[str, Picture]]:
    for name in methods:
        proposals, _ = read_table(data / "objectness" / f"{name}.parquet")
        columns = {
            "image": draw_image,
            name: _open(data / "maps" / f"{name}.h5", stores),
            "top proposals": draw_boxes(proposals, RED, report.params.proposals),
        }
        picture = report.steps(report.choose(TEST), columns)
        if picture is not None:
            yield f"{name}-objectness", picture


def _heat_maps(report: Report, data: Path, stores: ExitStack) -> Iterator[tuple[str, Picture]]:
    for name, shown in params.heat_maps().items():
        maps = {store: stores.enter_context(MapStore(data / "maps" / f"{store}.h5")) for store in shown}
        picture = heat_maps(report, maps)
        if picture is not None:
            yield f"{name}-heat-maps", picture


def _segmentations(report: Report, data: Path, stores: ExitStack) -> Iterator[tuple[str, Picture]]:
    names = params.segments()
    if names:
        seeds = {name: data / "seeds" / f"{name}.h5" for name in names}
        cues = {name: stores.enter_context(MapStore(path)) for name, path in seeds.items() if path.exists()}
        masks = {name: LabelMasks(data / "segments" / name) for name in names}
        truth = ClassMasks(data / "masks", report.index, read_annotations(data / "annotations.parquet"))
        yield from segmentations(report, cues, masks, truth)


def _detections(report: Report, data: Path, stores: ExitStack) -> Iterator[tuple[str, Picture]]:
    """All detectors side by side, and what each one's filter keeps."""
    detectors = params.detectors()
    boxes = {name: read_table(data / "detections" / f"{name}.parquet")[0] for name in detectors}
    found = detections(report, boxes, read_annotations(data / "annotations.parquet")) if boxes else None
    if found is not None:
        yield "detections", found
    for name, block in detectors.items():
        network = block["network"]
        if network.get("filter"):
            scored = str(network["proposals"])
            maps, oracle = (data / folder / f"{Path(scored).name}.h5" for folder in ("maps", "oracle"))
            draw = _open(oracle if oracle.exists() else maps, stores)
            proposals, _ = read_table(data / f"{scored}.parquet")
            picture = filtered(report, proposals, float(network["filter"]["threshold"]), draw)
            if picture is not None:
                yield f"{name}-filter", picture


def _open(path: Path, stores: ExitStack) -> Draw:
    return draw_store(stores.enter_context(MapStore(path)))


if __name__ == "__main__":
    run_stage(main)
