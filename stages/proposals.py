"""Propose boxes in every image of a data set: by selective search, or from files of others."""

from pathlib import Path

from wsol_core.data.index import read_index
from wsol_core.errors import run_stage
from wsol_core.files import write_table
from wsol_core.params import load
from wsol_core.proposal_files import read_proposals
from wsol_core.proposals import SELECTIVE_SEARCH, ProposalParams, search_proposals
from wsol_core.scratch import scratch_folder


def main(data_set: str) -> None:
    """Write `data/SET/proposals.parquet`."""
    params = load(ProposalParams, "proposals")
    source, output = Path("data", data_set, "index.parquet"), Path("data", data_set, "proposals.parquet")
    index = read_index(source)
    if params.source != SELECTIVE_SEARCH:
        write_table(output, read_proposals(Path(params.source), index, params))
        return
    with scratch_folder("proposals", {"proposals": params}, [source]) as scratch:
        write_table(output, search_proposals(index, params, scratch))


if __name__ == "__main__":
    run_stage(main)
