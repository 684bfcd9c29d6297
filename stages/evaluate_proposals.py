"""Hold every source of proposals against the ground truth: `python -m stages.evaluate_proposals SET`."""

from pathlib import Path

from tqdm import tqdm

from wsol_core.core.errors import run_stage
from wsol_core.core.files import SCORED_BOXES, read_table, write_json
from wsol_core.core.params import load, preset
from wsol_core.data.index import read_annotations, read_index
from wsol_core.evaluation.proposals import COUNTS, evaluate
from wsol_core.proposals.selection import ProposalParams, choose


def main(data_set: str) -> None:
    """Write `proposals/SET.json` to results: by source and split what `evaluation.proposals.evaluate` finds."""
    min_side, folder = load(ProposalParams, "proposals").min_side, Path("data", data_set)
    index, annotations = read_index(folder / "index.parquet"), read_annotations(folder / "truth/annotations.parquet")
    figures = {}
    for path in tqdm(sorted((folder / "proposals").glob("*.parquet")), "recall", unit="source", disable=None):
        chosen = choose(read_table(path, SCORED_BOXES)[0], index, min_side, max(COUNTS))
        figures[path.stem] = evaluate(chosen, index, annotations)
    write_json(Path("results") / preset() / "proposals" / f"{data_set}.json", figures)


if __name__ == "__main__":
    run_stage(main)
