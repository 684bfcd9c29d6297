"""Image labels and proposals -> detector (OICR, MIST; filtered by objectness, WSFL 3.5). Usage: train_detector NAME."""

from wsol_core.core.errors import run_stage
from wsol_core.detection.entry import load_detector
from wsol_core.detection.fit import fit_detector


def main(name: str) -> None:
    """Run the stage."""
    fit_detector(name, load_detector(name, ("sees", "learns_from", "network")))


if __name__ == "__main__":
    run_stage(main)
