"""Detector and proposals -> scored boxes of every class in all images of the detection set. Usage: detect NAME."""

from functools import partial
from pathlib import Path

from wsol_core.core.errors import run_stage
from wsol_core.core.files import read_table, write_table
from wsol_core.core.params import load
from wsol_core.data.index import read_index
from wsol_core.detection.detector import DetectorParams, build
from wsol_core.detection.infer import DetectParams, detect
from wsol_core.engine.checkpoints import rebuild

DATA = Path("data/detection")


def main(name: str) -> None:
    """Run the stage."""
    index = read_index(DATA / "index.parquet")
    construct = partial(build, classes=len(index.classes))
    model, _ = rebuild(Path(f"data/models/{name}.safetensors"), DetectorParams, construct)
    proposals = read_table(DATA / "proposals.parquet")[0]
    found = detect(model, index, proposals, load(DetectParams, f"detectors.{name}.detect"))
    if found is not None:
        write_table(DATA / "detections" / f"{name}.parquet", found)


if __name__ == "__main__":
    run_stage(main)
