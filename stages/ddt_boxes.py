"""Images and labels -> DDT pseudo boxes, indicator maps and components (WSFL 3.3.1)."""

from pathlib import Path

from wsol_core.core.errors import run_stage
from wsol_core.core.params import load
from wsol_core.data.index import read_index
from wsol_core.methods.ddt.colocalization import DDTParams
from wsol_core.methods.ddt.outputs import write_outputs

DATA = Path("data/localization")


def main() -> None:
    """Write `pseudo_boxes.parquet`, `outputs/ddt/maps.h5` and `data/models/ddt.safetensors`."""
    write_outputs(load(DDTParams, "ddt"), read_index(DATA / "index.parquet"), DATA, Path("data/models/ddt.safetensors"))


if __name__ == "__main__":
    run_stage(main)
