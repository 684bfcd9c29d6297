"""Proposals -> features of each cut out of cached feature maps, for linear detectors. Usage: proposal_features NAME."""

from pathlib import Path

from wsol_core.core.errors import run_stage
from wsol_core.core.files import SCORED_BOXES, read_table
from wsol_core.core.params import load
from wsol_core.data.index import read_index
from wsol_core.detection.proposal_features import ProposalFeatureParams, write_proposal_features
from wsol_core.detection.proposal_targets import relative_proposals

DATA = Path("data/detection")


def main(name: str) -> None:
    """Run the stage."""
    params = load(ProposalFeatureParams, f"proposal_features.{name}")
    index, proposals = read_index(DATA / "index.parquet"), read_table(DATA / "proposals.parquet", SCORED_BOXES)[0]
    boxes, _ = relative_proposals(proposals, index.table, limit=len(proposals))
    write_proposal_features(params, index, boxes, DATA / "proposal_features" / f"{name}.h5")


if __name__ == "__main__":
    run_stage(main)
