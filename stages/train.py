"""A network of `networks:` -> its weights and the loss of each epoch. Usage: train NAME."""

from wsol_core.core.errors import run_stage
from wsol_core.engine.fit import fit_network
from wsol_core.engine.recipe import load_entry


def main(name: str) -> None:
    """Run the stage."""
    fit_network(name, *load_entry(name))


if __name__ == "__main__":
    run_stage(main)
