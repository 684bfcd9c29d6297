"""Linear heads and described proposals -> scored boxes of every class in all images. Usage: detect_linear NAME."""

from functools import partial
from pathlib import Path

from wsol_core.core.errors import run_stage
from wsol_core.core.files import read_table, write_table
from wsol_core.core.params import load
from wsol_core.data.index import read_index
from wsol_core.detection.infer_linear import detect
from wsol_core.detection.linear_detector import LinearDetector, LinearDetectorParams
from wsol_core.detection.postprocess import SelectionParams
from wsol_core.detection.proposal_features import DescriptionStore
from wsol_core.engine.checkpoints import rebuild

DATA = Path("data/detection")


def main(name: str, descriptions: str) -> None:
    """Run the stage; `descriptions` is the store that the heads learnt on."""
    index = read_index(DATA / "index.parquet")
    with DescriptionStore(DATA / "descriptions" / f"{descriptions}.h5") as store:
        construct = partial(LinearDetector, width=store.width, classes=len(index.classes))
        model, _ = rebuild(Path(f"data/models/{name}.safetensors"), LinearDetectorParams, construct)
        proposals = read_table(DATA / "proposals.parquet")[0]
        found = detect(model, store, index, proposals, load(SelectionParams, f"linear_detectors.{name}.detect"))
    if found is not None:
        write_table(DATA / "detections" / f"{name}.parquet", found)


if __name__ == "__main__":
    run_stage(main)
