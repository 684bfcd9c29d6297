"""Committed cut-outs and landscapes -> the demo's photographs. Usage: render_demo SET."""

from pathlib import Path

from wsol_core.core.errors import InputError, run_stage
from wsol_core.core.params import load
from wsol_core.datasets.demo import SETS, render_background, render_set
from wsol_core.datasets.scenes import DemoParams

ASSETS = Path("data/demo")


def main(set_name: str) -> None:
    """Render `localization`, `detection` or `background` into `data/rendered/SET`."""
    params = load(DemoParams, "demo")
    output = Path("data/rendered") / set_name
    if set_name not in SETS:
        raise InputError(f"no demo set {set_name!r}; there are {', '.join(SETS)}")
    if set_name == "background":
        render_background(ASSETS, params, output)
    else:
        render_set(set_name, ASSETS, params, output)


if __name__ == "__main__":
    run_stage(main)
