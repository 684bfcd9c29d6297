"""Image labels and described proposals -> linear heads of OICR or MIST. Usage: train_linear_detector NAME."""

from functools import partial
from pathlib import Path

from wsol_core.core.errors import run_stage
from wsol_core.core.files import read_table
from wsol_core.core.params import load
from wsol_core.data.index import read_index
from wsol_core.data.loading import Pairs
from wsol_core.detection.heads import DetectorLoss
from wsol_core.detection.linear_detector import DescribedPairs, LinearDetector, LinearDetectorParams
from wsol_core.detection.proposal_features import DescriptionStore
from wsol_core.detection.proposal_targets import proposal_targets
from wsol_core.engine.fit import train_on_pairs
from wsol_core.oracle.masks import refuse_hidden_oracle

DATA = Path("data/detection")


def main(name: str) -> None:
    """Run the stage."""
    params = load(LinearDetectorParams, f"linear_detectors.{name}.network")
    refuse_hidden_oracle(name, params.proposals)
    table, index = DATA / f"{params.proposals}.parquet", read_index(DATA / "index.parquet")
    path = DATA / "descriptions" / f"{params.descriptions}.h5"
    targets = proposal_targets(read_table(table)[0], len(index.classes), params.max_proposals)
    with DescriptionStore(path) as store:

        def pairs(_: LinearDetector, split: str) -> Pairs | None:
            rows = index.split(split)
            return None if rows.empty else DescribedPairs(store, rows, targets(rows))

        train_on_pairs(
            name,
            params,
            "32-true",
            partial(LinearDetector, params, store.width, len(index.classes)),
            DetectorLoss(params, index.classes),
            pairs,
            index.name,
            [DATA / "index.parquet", table, path],
        )


if __name__ == "__main__":
    run_stage(main)
