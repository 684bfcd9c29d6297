"""Image labels and proposals -> detector (OICR, MIST; filtered by objectness, WSFL 3.5). Usage: train_detector NAME."""

from functools import partial
from pathlib import Path

from wsol_core.core.errors import run_stage
from wsol_core.core.files import read_table
from wsol_core.core.params import load
from wsol_core.data.index import read_index
from wsol_core.detection.detector import DetectorParams, build
from wsol_core.detection.heads import DetectorLoss
from wsol_core.detection.proposal_targets import proposal_targets
from wsol_core.engine.fit import train_network
from wsol_core.oracle.masks import refuse_hidden_oracle

DATA = Path("data/detection")


def main(name: str) -> None:
    """Run the stage."""
    params = load(DetectorParams, f"detectors.{name}.network")
    refuse_hidden_oracle(name, params.proposals)
    table, index = DATA / f"{params.proposals}.parquet", read_index(DATA / "index.parquet")
    train_network(
        name,
        params,
        partial(build, params, len(index.classes)),
        DetectorLoss(params, index.classes),
        index,
        proposal_targets(read_table(table)[0], len(index.classes), params.max_proposals),
        [DATA / "index.parquet", table],
    )


if __name__ == "__main__":
    run_stage(main)
