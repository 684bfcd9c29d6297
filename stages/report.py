"""Contact sheets of every step and of each method's best and worst cases: `python -m stages.report SET`."""

from pathlib import Path

from wsol_core.core.errors import run_stage
from wsol_core.core.params import preset
from wsol_core.visualization.report import write_report


def main(data_set: str) -> None:
    """Write the JPEGs of `results/PRESET/pictures/SET`."""
    write_report(data_set, Path("data") / data_set, Path("results") / preset() / "pictures" / data_set)


if __name__ == "__main__":
    run_stage(main)
