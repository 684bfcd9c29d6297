"""Maps of two methods -> one by weighted map voting (Two-Phase, Eq. 5) or by their mean. Usage: vote NAME."""

from pathlib import Path

from wsol_core.core.errors import run_stage
from wsol_core.core.map_store import Kind, MapStore, create
from wsol_core.core.params import load
from wsol_core.methods.two_phase.voting import VotingParams, average, finest, vote


def main(name: str) -> None:
    """Write `outputs/NAME/maps.h5`."""
    params = load(VotingParams, f"votes.{name}")
    outputs = Path("data", params.set, "outputs")
    with (
        MapStore(outputs / params.first / "maps.h5") as first,
        MapStore(outputs / params.second / "maps.h5") as second,
        create(outputs / name / "maps.h5", Kind.SCORE, *finest(first, second)) as writer,
    ):
        merge = vote if params.rule == "maximum" else average
        merge(first, second, writer)


if __name__ == "__main__":
    run_stage(main)
