"""The first proposals of a source that are large enough. Usage: proposals SET."""

from pathlib import Path

from wsol_core.core.errors import run_stage
from wsol_core.core.files import SCORED_BOXES, read_table, write_table
from wsol_core.core.params import load
from wsol_core.data.index import read_index
from wsol_core.proposals.selection import ProposalParams, choose


def main(data_set: str) -> None:
    """Write `data/SET/proposals.parquet`."""
    params, folder = load(ProposalParams, "proposals"), Path("data", data_set)
    found, _ = read_table(folder / "proposals" / f"{params.source}.parquet", SCORED_BOXES)
    chosen = choose(found, read_index(folder / "index.parquet"), params.min_side, params.max_proposals)
    write_table(folder / "proposals.parquet", chosen)


if __name__ == "__main__":
    run_stage(main)
