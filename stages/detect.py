"""Detector and proposals -> scored boxes of every class in all images of the detection set. Usage: detect NAME."""

from wsol_core.core.errors import run_stage
from wsol_core.detection.entry import load_detector
from wsol_core.detection.writer import write_detections


def main(name: str) -> None:
    """Run the stage."""
    write_detections(name, load_detector(name))


if __name__ == "__main__":
    run_stage(main)
