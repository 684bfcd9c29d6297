"""Hold per-class heat maps against the truth: `python -m stages.evaluate_heat_maps NAME STORE ...`."""

from contextlib import ExitStack
from pathlib import Path

from wsol_core.core import params
from wsol_core.core.errors import run_stage
from wsol_core.core.files import write_csv, write_json
from wsol_core.core.map_store import MapStore
from wsol_core.data.index import read_annotations, read_index
from wsol_core.evaluation.heat_maps import evaluate

DATA = Path("data/detection")


def main(name: str, *stores: str) -> None:
    """Write `heat_maps/NAME.json` (by split and store) and `curves/NAME-heat-maps.csv` (by class too) to results.

    A store is `data/detection/outputs/STORE/maps.h5`; several are compared, such as the phases and what is merged of
    them. No store stands for the one of that name.
    """
    results = Path("results") / params.preset()
    index = read_index(DATA / "index.parquet")
    annotations = read_annotations(DATA / "truth/annotations.parquet")
    with ExitStack() as stack:
        places = {store: DATA / "outputs" / store / "maps.h5" for store in stores or (name,)}
        opened = {store: stack.enter_context(MapStore(path)) for store, path in places.items()}
        figures, classes = evaluate(opened, index, annotations, DATA / "truth/masks")
    if not figures:
        print(f"{name}: no split has annotations and maps, so there is nothing to evaluate")
    write_json(results / "heat_maps" / f"{name}.json", figures)
    write_csv(results / "curves" / f"{name}-heat-maps.csv", classes.round(6))


if __name__ == "__main__":
    run_stage(main)
