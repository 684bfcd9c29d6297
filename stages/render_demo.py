"""Stage `render_demo`: compose the demo's photographs from the committed cut-outs and landscapes."""

from pathlib import Path

from wsol_core.data.demo import render_demo
from wsol_core.data.scenes import DemoParams
from wsol_core.errors import run_stage
from wsol_core.params import load


def main() -> None:
    """Render `data/demo` into `data/rendered`."""
    render_demo(Path("data/demo"), load(DemoParams, "demo"), Path("data/rendered"))


if __name__ == "__main__":
    run_stage(main)
