"""The commands `wsol evaluate ...`: the project's figures for anybody's outputs.

A command imports what it needs, so that `wsol --help` answers at once.
"""

from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from wsol_core.core.errors import InputError, one_line_errors

if TYPE_CHECKING:
    from wsol_core.external.report import Outcome
    from wsol_core.external.score_maps import ScoreMaps

app = typer.Typer(no_args_is_help=True, help="Measure score maps, boxes or masks of any method against ground truth.")

Truth = Annotated[
    Path,
    typer.Option(
        help="COCO .json; folder of VOC .xml, or ImageSets/Main/SET.txt; CUB_200_2011; folder with image_ids.txt, "
        "class_labels.txt, image_sizes.txt, localization.txt; or data/SET of the pipeline.",
        show_default=False,
    ),
]
Out = Annotated[Path, typer.Option(help="JSON to write; tables (.csv) and curves (.png) go beside it, same stem.")]
Overwrite = Annotated[bool, typer.Option("--overwrite", help="Replace your own files of the same names too.")]
ClassMaps = Annotated[Path | None, typer.Option(help="HDF5 file of maps per class: maps, image_id, label.")]

OnlyPredicted = Annotated[
    bool,
    typer.Option(
        "--only-predicted", help="Leave out, and count, images for which nothing is predicted, instead of failing them."
    ),
]
Split = Annotated[str, typer.Option(help="Of CUB or data/SET; what is predicted for other splits is passed over.")]
OUT = Path("metrics.json")


@app.command()
def localization(
    maps: Annotated[Path, typer.Option(help="Folder of NAME.npy or NAME.png of any size, or one HDF5 file.")],
    ground_truth: Truth,
    threshold: Annotated[float | None, typer.Option(help="Of the maps, for gt_known and top1_loc, top5_loc.")] = None,
    classes: Annotated[Path | None, typer.Option(help="CSV of class scores: image_id, class, score.")] = None,
    mask_root: Annotated[Path | None, typer.Option(help="Folder of the masks that localization.txt names.")] = None,
    split: Split = "test",
    only_predicted: OnlyPredicted = False,
    out: Out = OUT,
    overwrite: Overwrite = False,
) -> None:
    """GT-known, Top-1, Top-5, MaxBoxAcc, MaxBoxAccV2, PxAP, and the centre box beside them.

    A map covers the whole image, has values in [0, 1] and the name of its image. An image without a map counts as
    wrong, unless --only-predicted; a map without ground truth is refused. What the inputs do not allow is null in the
    JSON, with the reason.

    Example: wsol evaluate localization --maps maps/ --ground-truth metadata/CUB/test --threshold 0.3 --out cub.json
    """
    with _evaluation(out, overwrite, [maps, ground_truth, classes, mask_root]) as evaluation:
        from wsol_core.external.ground_truth import read_ground_truth
        from wsol_core.external.localization import evaluate_maps
        from wsol_core.external.ranked_classes import read_ranked_classes

        truth, given = read_ground_truth(ground_truth, mask_root, split), evaluation.open(maps)
        if only_predicted:
            truth = truth.only(truth.names.find_all(given.names, given.place))
        ranked = None if classes is None else read_ranked_classes(classes, truth)
        evaluation.write(evaluate_maps(given, truth, threshold, ranked))


@app.command()
def detection(
    ground_truth: Truth,
    boxes: Annotated[
        list[Path] | None,
        typer.Option(
            help="COCO results .json, folder of comp4_det_test_CLASS.txt, or a .parquet table; several with --baseline."
        ),
    ] = None,
    baseline: Annotated[
        list[Path] | None,
        typer.Option(
            help="Another detector's boxes: adds the gain in VOC07 mAP and its paired interval. Both options again for"
            " other runs of the two: the gain is that of the means, all else is of the first --boxes."
        ),
    ] = None,
    maps: ClassMaps = None,
    split: Split = "test",
    only_predicted: OnlyPredicted = False,
    out: Out = OUT,
    overwrite: Overwrite = False,
) -> None:
    """VOC07 and VOC10 mAP, COCO AP, CorLoc with and without classes, proposal recall; point_map of per-class maps.

    All images of the ground truth count, unless --only-predicted. Boxes are pixels of the original image. One of no
    area, of no finite numbers or outside its image is left out, counted and listed; many of them are refused.

    Example: wsol evaluate detection --boxes results.json --ground-truth instances_val2017.json --out coco.json
    """
    with _evaluation(out, overwrite, [ground_truth, maps, *(boxes or ()), *(baseline or ())]) as evaluation:
        from wsol_core.external.detection import evaluate_boxes, evaluate_gain
        from wsol_core.external.ground_truth import read_ground_truth
        from wsol_core.external.predicted_boxes import read_boxes

        if not boxes and baseline:
            raise InputError("--baseline without --boxes: give both, to hold one against the other")
        if len(boxes or ()) > 1 and not baseline:
            raise InputError("several --boxes without --baseline: evaluate them one by one")
        if not boxes and maps is None:
            raise InputError("nothing to evaluate: give --boxes, or --maps, or both")
        truth = read_ground_truth(ground_truth, split=split)
        runs = [read_boxes(path, truth) for path in boxes or ()]
        given = None if maps is None else evaluation.open(maps)
        if only_predicted:
            named = truth.names.find_all(given.names, given.place) if given else []
            truth = truth.only([*named, *(name for own in runs for name in own.image_ids)])
        outcome = evaluate_boxes(runs[0] if runs else None, truth, given)
        if baseline:
            others = [read_boxes(path, truth).boxes for path in baseline]
            outcome.figures.update(evaluate_gain([own.boxes for own in runs], others, truth))
        evaluation.write(outcome)


@app.command()
def segmentation(
    ground_truth: Annotated[Path, typer.Option(help="Folder of PNG label masks, 255 ignored (SegmentationClass).")],
    masks: Annotated[
        Path | None, typer.Option(help="Folder of predicted PNG label masks, same names and sizes.")
    ] = None,
    classes: Annotated[
        Path | None, typer.Option(help="Class names, one per line, in the order of their numbers.")
    ] = None,
    maps: ClassMaps = None,
    seeds: Annotated[Path | None, typer.Option(help="Folder of PNG seeds, same names and sizes, 255 for none.")] = None,
    only_predicted: OnlyPredicted = False,
    out: Out = OUT,
    overwrite: Overwrite = False,
) -> None:
    """Mean IoU as VOC; precision and recall of seeds; saliency_ap of maps per class (label k for class k + 1 of masks).

    All true masks count, unless --only-predicted. Without a predicted mask every pixel of an image is wrong.

    Example: wsol evaluate segmentation --masks predicted/ --ground-truth VOC2012/SegmentationClass --out voc.json
    """
    with _evaluation(out, overwrite, [ground_truth, masks, classes, maps, seeds]) as evaluation:
        from wsol_core.data.label_masks import LabelMasks, read_class_names
        from wsol_core.external.segmentation import evaluate_masks, numbered_classes, predicted_masks

        if masks is None and maps is None and seeds is None:
            raise InputError("nothing to evaluate: give --masks, or --maps, or --seeds, or more of them")
        truth = LabelMasks(ground_truth)
        predicted, cues = (None if folder is None else LabelMasks(folder) for folder in (masks, seeds))
        names = numbered_classes(truth) if classes is None else read_class_names(classes)
        given = None if maps is None else evaluation.open(maps)
        shown = predicted_masks(truth, predicted, cues, given) if only_predicted else truth
        outcome = evaluate_masks(predicted, shown, names, given, cues)
        if only_predicted:
            outcome.counts["images_left_out"] = len(truth) - len(shown)
        evaluation.write(outcome)


@dataclass(frozen=True)
class _Evaluation:
    """One run of a command: what it opens is closed at its end, and what it writes replaces none of its inputs."""

    out: Path
    overwrite: bool
    inputs: list[Path]
    stack: ExitStack

    def open(self, path: Path) -> "ScoreMaps":
        """Score maps, open until the end."""
        from wsol_core.external.score_maps import open_maps

        return self.stack.enter_context(open_maps(path))

    def write(self, outcome: "Outcome") -> None:
        """Write the files and print the figures."""
        from wsol_core.core.written_files import output_file
        from wsol_core.external.report import print_outcome, write_outcome

        with output_file(self.out, self.overwrite, self.inputs) as path:
            written = write_outcome(path, outcome)
        print_outcome(outcome)
        typer.echo(f"wrote {', '.join(str(self.out.with_name(each.name)) for each in written)}")


@contextmanager
def _evaluation(out: Path, overwrite: bool, inputs: Sequence[Path | None]) -> Iterator[_Evaluation]:
    """Check the output before the work; bad input becomes one line."""
    from wsol_core.core.written_files import WrittenFiles

    given = [path for path in inputs if path is not None]
    with one_line_errors(), ExitStack() as stack:
        if out.suffix != ".json":
            raise InputError(f"--out {out}: must end in .json")
        WrittenFiles(out.parent, out.name, overwrite, given).check([out.name])
        yield _Evaluation(out, overwrite, given, stack)
