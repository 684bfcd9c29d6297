"""Differences between rows of a table of boxes (`results/ablations/PRESET/TABLE-pairs.csv`).

The boxes of each row and seed come from the row's experiment, and are held against the ground truth as the evaluation
does. An interval says what other seeds and other images of the same kind would give: both are drawn again with
replacement, the same ones for both rows.
"""

from collections.abc import Callable
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd

from wsol_core.ablations.experiments import fetch_files, find_experiment
from wsol_core.ablations.runs import path_of, read_rows
from wsol_core.ablations.tables import LocalizationTable
from wsol_core.core.errors import InputError
from wsol_core.core.files import read_table, write_csv
from wsol_core.data.index import SPLITS, read_annotations, read_index
from wsol_core.localization.localize import final_boxes, find_targets
from wsol_core.metrics.detection_intervals import interval, resampled
from wsol_core.metrics.localization import best_iou, gt_known, is_correct

DATA = "data/localization"
FIGURES = ("gt_known", "mean_iou")
COLUMNS = (
    "first", "second", "split", "seeds", *(f"{name}{end}" for name in FIGURES for end in ("", "_low", "_high"))
)  # fmt: skip
EVERY = "all"
"""Stands for the splits taken together."""
SEED = 0
"""Of the draws."""
NEAR = 1e-5
"""Figures in CSV files have six digits."""

Floats = npt.NDArray[np.float64]
IoUs = pd.Series
"""IoU of each image's box, by split and image id."""


def pairs_path(table: LocalizationTable) -> Path:
    """The CSV file."""
    return path_of(table).with_name(f"{table.name}-pairs.csv")


def read_pairs(path: Path) -> pd.DataFrame:
    """The file, with `COLUMNS`: the first row less the second, shares in [-1, 1]; empty where there is none.

    Raises:
        InputError: it is damaged.
    """
    if not path.exists():
        return pd.DataFrame(columns=COLUMNS)
    try:
        return pd.read_csv(path, dtype={"seeds": str})[list(COLUMNS)]
    except (ValueError, KeyError) as error:
        raise InputError(f"{path}: not a table of pairs; restore or delete it") from error


def write_pairs(table: LocalizationTable, say: Callable[[str], None]) -> None:
    """Compare the rows of each pair over the seeds that both have; a pair whose boxes are not here keeps its old lines.

    Args:
        table: with pairs.
        say: takes a line on each pair that stays as it was.

    Raises:
        InputError: a CSV file is damaged.
    """
    runs, old, known, found = read_rows(path_of(table), table), read_pairs(pairs_path(table)), {}, []
    for first, second in table.pairs:
        seeds = sorted(set.intersection(*(set(runs.loc[runs["row"] == name, "seed"]) for name in (first, second))))
        try:
            for key in [(name, seed) for name in (first, second) for seed in seeds]:
                if key not in known:
                    known[key] = _ious(table, runs, *key)
            pair = [[known[name, seed] for seed in seeds] for name in (first, second)]
            found += [pd.DataFrame(columns=COLUMNS), *([_lines(first, second, seeds, *pair)] if seeds else [])]
        except InputError as error:
            say(f"{table.name}: {first} against {second}: not compared: {error}")
            found.append(old[(old["first"] == first) & (old["second"] == second)])
    if lines := [each for each in found if len(each)]:
        write_csv(pairs_path(table), pd.concat(lines).round(6))


def _lines(first: str, second: str, seeds: list[int], ours: list[IoUs], theirs: list[IoUs]) -> pd.DataFrame:
    """A line for each split, and one for all."""
    if any(not each.index.equals(ours[0].index) for each in (*ours, *theirs)):
        raise InputError("their images differ")
    a, b = (np.stack([each.to_numpy(np.float64) for each in own]) for own in (ours, theirs))
    differences = np.stack([is_correct(a).astype(float) - is_correct(b), a - b])  # (figures, seeds, images)
    of_image = ours[0].index.get_level_values("split")
    splits = {split: of_image == split for split in reversed(SPLITS) if (of_image == split).any()}
    lines = []
    for split, images in {**splits, EVERY: np.ones(len(of_image), dtype=bool)}.items():
        own = differences[:, :, images]
        bounds = paired_intervals(own, SEED)
        line: dict[str, Any] = {"first": first, "second": second, "split": split, "seeds": " ".join(map(str, seeds))}
        for name, mean, (low, high) in zip(FIGURES, own.mean(axis=(1, 2)), bounds, strict=True):
            line |= {name: mean, f"{name}_low": low, f"{name}_high": high}
        lines.append(line)
    return pd.DataFrame(lines, columns=COLUMNS)


def paired_intervals(differences: Floats, seed: int) -> list[tuple[float, float]]:
    """The 95 % intervals of the means of F figures' differences `(F, S, N)` between two methods at S seeds on N images.

    Seeds and images are drawn again, with replacement, each image for all seeds and figures at once: an image that is
    hard at one seed is so at the others.

    Args:
        differences: of each figure, seed and image.
        seed: of the draws.
    """
    seeds, images = differences.shape[1:]
    generator, draws = np.random.default_rng(seed), []
    for counts in resampled(images, seed):
        of_seeds = generator.multinomial(seeds, np.full(seeds, 1 / seeds), len(counts))
        sums = np.einsum("fsn,rn->fsr", differences, counts, optimize=True)  # r: draws
        draws.append(np.einsum("fsr,rs->fr", sums, of_seeds) / (seeds * images))
    return [interval(each) for each in np.concatenate(draws, axis=1)]


def _ious(table: LocalizationTable, runs: pd.DataFrame, name: str, seed: int) -> IoUs:
    """Of the boxes of a row's experiment.

    Raises:
        InputError: the experiment or its files are not here, or it has been run again for other rows.
    """
    lines = runs[(runs["row"] == name) & (runs["seed"] == seed)]
    experiment, commit = lines["experiment"].iloc[0], str(lines["commit"].iloc[0])
    reference = None if pd.isna(experiment) else find_experiment(experiment, commit)
    if reference is None:
        raise InputError(f"the experiment of {name}, seed {seed}, is not here; delete its lines to run it again")
    boxes = f"{table.method_of(table.rows_by_name()[name])}.parquet"
    with TemporaryDirectory() as folder:
        place = Path(folder)
        files = (f"{DATA}/index.parquet", f"{DATA}/truth/annotations.parquet", f"{DATA}/boxes/{boxes}")
        fetch_files(reference, files, place)
        found = box_ious(place / "index.parquet", place / "annotations.parquet", place / boxes)
    by_split = dict(zip(lines["split"], lines["gt_known"], strict=True))
    for split, own in found.groupby(level="split"):
        if not abs(float(gt_known(own.to_numpy())) - by_split.get(str(split), np.nan)) < NEAR:
            raise InputError(f"{experiment} no longer holds {name}, seed {seed}; delete its lines to run it again")
    return found


def box_ious(index: Path, annotations: Path, boxes: Path) -> IoUs:
    """IoU of each image's box with the ground truth, by split and image id, as the evaluation has it.

    Raises:
        InputError: a file is missing or damaged.
    """
    images, truth, (found, _) = read_index(index), read_annotations(annotations), read_table(boxes)
    ious = {}
    for split in SPLITS:
        targets = find_targets(images, truth, split)
        predicted = final_boxes(found, targets.images)
        own = best_iou(predicted[:, None], targets.truth)[:, 0]
        ious[split] = pd.Series(own, index=targets.images["image_id"], dtype=np.float32)
    return pd.concat(ious, names=["split", "image_id"])
