"""The maps of two phases -> merged by weighted map voting (Two-Phase Learning, Eq. 5). Usage: two_phase_maps NAME."""

from pathlib import Path

from wsol_core.core.errors import run_stage
from wsol_core.core.map_store import Kind, MapStore, create
from wsol_core.core.params import load
from wsol_core.methods.two_phase.voting import VotingParams, vote


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
