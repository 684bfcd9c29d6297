"""Contact sheets of every step and of each method's best and worst cases: `python -m stages.report`."""

from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

from wsol_core import params
from wsol_core.data.index import TEST, TRAIN_WEAKSUP, read_annotations, read_index
from wsol_core.errors import run_stage
from wsol_core.files import atomic_path, read_table
from wsol_core.maps import MapStore
from wsol_core.pictures import BLUE, RED, Picture, write_jpeg
from wsol_core.report import Draw, Report, ReportParams, draw_boxes, draw_image, draw_result, draw_store

LOCALIZATION = Path("data/localization")
DETECTION = Path("data/detection")
SEGMENTATION = "segmentation-"


def main() -> None:
    """Write the JPEGs of `results/PRESET/pictures`."""
    block, seed = params.load(ReportParams, "report"), params.seed()
    with atomic_path(Path("results") / params.preset() / "pictures") as folder, ExitStack() as stores:
        folder.mkdir()
        for name, picture in (*_localization(block, seed, stores), *_detection(block, seed, stores)):
            write_jpeg(folder / f"{name}.jpg", picture)


def _localization(block: ReportParams, seed: int, stores: ExitStack) -> Iterator[tuple[str, Picture]]:
    report = Report(read_index(LOCALIZATION / "index.parquet"), block, seed)
    annotations = read_annotations(LOCALIZATION / "annotations.parquet")
    maps = {name: _open(LOCALIZATION / "maps" / f"{name}.h5", stores) for name in block.methods}
    columns: dict[str, Draw] = {"image": draw_image}
    columns["pseudo box"] = draw_boxes(read_table(LOCALIZATION / "pseudo_boxes.parquet")[0], BLUE)
    for name, draw in maps.items():
        if name == "foreground":
            columns["pseudo mask"] = _open(LOCALIZATION / "pseudo_masks.h5", stores)
        if name.startswith(SEGMENTATION):
            source = name.removeprefix(SEGMENTATION)
            columns[f"labels from {source}"] = _open(LOCALIZATION / "labels" / f"{source}.h5", stores)
        columns[name] = draw
    boxes = {name: read_table(LOCALIZATION / "boxes" / f"{name}.parquet")[0] for name in block.methods}
    for name in block.methods[-1:]:
        columns["box (red), truth (green)"] = draw_result(boxes[name], annotations)
    for split in (TRAIN_WEAKSUP, TEST):
        picture = report.steps(report.choose(split), columns)
        if picture is not None:
            yield f"steps-{split}", picture
    for name, draw in maps.items():
        draws = (draw, draw_result(boxes[name], annotations))
        cases = report.cases(boxes[name], annotations, TEST, draws)
        yield from zip((f"{name}-best", f"{name}-worst"), cases, strict=False)


def _detection(block: ReportParams, seed: int, stores: ExitStack) -> Iterator[tuple[str, Picture]]:
    for name in block.objectness:
        report = Report(read_index(DETECTION / "index.parquet"), block, seed)
        proposals, _ = read_table(DETECTION / "objectness" / f"{name}.parquet")
        columns = {
            "image": draw_image,
            name: _open(DETECTION / "maps" / f"{name}.h5", stores),
            "top proposals": draw_boxes(proposals, RED, block.proposals),
        }
        picture = report.steps(report.choose(TEST), columns)
        if picture is not None:
            yield f"{name}-objectness", picture


def _open(path: Path, stores: ExitStack) -> Draw:
    return draw_store(stores.enter_context(MapStore(path)))


if __name__ == "__main__":
    run_stage(main)
