"""The maps of two phases -> merged by weighted map voting (Two-Phase Learning, Eq. 5). Usage: two_phase_maps NAME."""

from pathlib import Path

from wsol_core.errors import run_stage
from wsol_core.map_voting import VotingParams, vote
from wsol_core.maps import Kind, MapStore, create
from wsol_core.params import load


def main(name: str) -> None:
    """Run the stage."""
    params = load(VotingParams, f"two_phase.{name}")
    folder = Path("data", params.set, "maps")
    with (
        MapStore(folder / f"{params.first}.h5") as first,
        MapStore(folder / f"{params.second}.h5") as second,
        create(folder / f"{name}.h5", Kind.SCORE, *first.shape) as writer,
    ):
        vote(first, second, writer)


if __name__ == "__main__":
    run_stage(main)
