"""A trained network -> what it says of a data set: `data/SET/outputs/NAME`. Usage: maps NAME SET SEES."""

from wsol_core.core.errors import run_stage
from wsol_core.engine.writer import write_outputs


def main(name: str, set_name: str, sees: str) -> None:
    """Run the stage."""
    write_outputs(name, set_name, sees)


if __name__ == "__main__":
    run_stage(main)
