"""The commands `wsol export ...`; each imports what it needs, so that `wsol --help` answers at once."""

import json
import sys
from pathlib import Path
from typing import Annotated, Literal

import typer

from wsol_core.core.errors import InputError, one_line_errors

app = typer.Typer(no_args_is_help=True, help="Take results elsewhere: boxes and masks of any stage, trained models.")

Out = Annotated[Path, typer.Option(help="File or folder to write.", show_default=False)]
Set = Annotated[Literal["localization", "detection"], typer.Option("--set", help="Data set.")]
Splits = Annotated[
    list[str] | None, typer.Option("--split", help="train-weaksup, train-fullsup or test; repeatable; all if left out.")
]
Overwrite = Annotated[bool, typer.Option("--overwrite", help="Replace your own files of the same names too.")]
AsJson = Annotated[bool, typer.Option("--json", help="A summary as JSON on standard output.")]
SUFFIXES = {".safetensors": "safetensors", ".onnx": "onnx", ".pt2": "torch"}


@app.command()
def boxes(
    source: Annotated[
        str,
        typer.Argument(
            help="A method of data/SET/boxes, or a detector; or a table below data/SET: pseudo_boxes, objectness/NAME, "
            "detections/NAME."
        ),
    ],
    out: Out,
    form: Annotated[
        Literal["coco", "voc", "yolo", "csv", "label-studio"], typer.Option("--format", help="See below.")
    ] = "coco",
    set_name: Set = "localization",
    split: Splits = None,
    min_score: Annotated[float, typer.Option(help="Boxes with a lower score are left out.")] = 0.0,
    best_of_labels: Annotated[
        bool, typer.Option("--best-of-labels", help="Of each class in an image's labels the best box alone.")
    ] = False,
    prefix: Annotated[
        str, typer.Option(help="Label Studio: what stands before an image's path.")
    ] = "/data/local-files/?d=",
    images: Annotated[
        bool, typer.Option("--images", help="voc, yolo: copy the images too, under their names.")
    ] = False,
    overwrite: Overwrite = False,
    as_json: AsJson = False,
) -> None:
    """Boxes, pseudo boxes, proposals or detections. Images without a box are listed too.

    coco, csv: a file. voc: a folder of XML, 1-based inclusive corners. yolo: a folder of labels, data.yaml and lists.
    Both name every image anew, without folders (images.csv), and expect the images in JPEGImages/ or images/: see
    --images. label-studio: tasks.json with predictions to correct, and config.xml. A box without a class has the
    image's label, where that is one, else the class `object`. --best-of-labels makes pseudo ground truth of detections,
    to train another detector on (docs/faster_rcnn.py).

    An earlier export to the same place is replaced; other files in a folder stay.

    Exit codes: 0 written; 1 bad input, or a file of yours would be replaced (see --overwrite).

    Example: wsol export boxes segmentation-foreground --format coco --out boxes.json

    Example: wsol export boxes segmentation-foreground --format yolo --images --out yolo

    Example: wsol export boxes pseudo_boxes --format label-studio --split train-weaksup --out tasks

    Example: wsol export boxes objectness/foreground --set detection --min-score 0.5 --format csv --out proposals.csv
    """
    with one_line_errors():
        from wsol_core.core.written_files import output_file
        from wsol_core.export import coco, label_studio, pictures, table, voc, yolo
        from wsol_core.export.place import INPUTS, exported_folder
        from wsol_core.export.results import read_boxes

        trainable = {"voc": voc, "yolo": yolo}
        if images and form not in trainable:
            raise InputError(f"--images: of the formats {' and '.join(trainable)} alone")
        results = read_boxes(set_name, source, split or (), min_score, best_of_labels)
        note = {"source": source, "set": set_name, "format": form, "splits": split or []}
        files = {"coco": coco.write_boxes, "csv": table.write_boxes}
        if form in files:
            with output_file(out, overwrite, INPUTS) as path:
                files[form](results, path)
        else:
            with exported_folder(out, overwrite, note) as folder:
                if form == "label-studio":
                    label_studio.write_boxes(results, folder, prefix)
                else:
                    trainable[form].write_boxes(results, folder)
                    pictures.write_table(results.images, folder)
                    if images:
                        pictures.copy_images(results.images, results.index.root, folder / trainable[form].FOLDER)
    _finish({"out": str(out), **note, "images": len(results.images), "boxes": len(results.boxes)}, as_json)


@app.command()
def masks(
    source: Annotated[
        str, typer.Argument(help="A method of data/SET/outputs; or below data/SET: targets/NAME, segments/NAME.")
    ],
    out: Out,
    form: Annotated[Literal["png", "coco"], typer.Option("--format", help="See below.")] = "png",
    set_name: Set = "localization",
    split: Splits = None,
    threshold: Annotated[float | None, typer.Option(help="Of score maps, instead of the calibrated one.")] = None,
    overwrite: Overwrite = False,
    as_json: AsJson = False,
) -> None:
    """Masks at the images' own size: of a method's maps, of the targets of networks, of segmentations.

    png: a folder of IMAGE_ID.png as VOC's: 0 background, 1 + label on a class, 255 nothing said; classes.txt names
    them. coco: a JSON file, run lengths per image and class; what nothing is said of is left out.

    An earlier export to the same place is replaced; other files in a folder stay.

    Exit codes: 0 written; 1 bad input, or a file of yours would be replaced (see --overwrite).

    Example: wsol export masks segmentation-foreground --out masks

    Example: wsol export masks targets/gaussian-foreground --split train-weaksup --out targets

    Example: wsol export masks targets/pseudo_masks --format coco --out pseudo_masks.json
    """
    with one_line_errors():
        from wsol_core.core.written_files import output_file
        from wsol_core.export import coco
        from wsol_core.export.masks import read_masks, write_pngs
        from wsol_core.export.place import INPUTS, exported_folder

        results = read_masks(set_name, source, split or (), threshold)
        note = {"source": source, "set": set_name, "format": form, "splits": split or []}
        if form == "coco":
            with output_file(out, overwrite, INPUTS) as path:
                coco.write_masks(source, results.images, results.classes, results.by_class(), path)
        else:
            with exported_folder(out, overwrite, note) as folder:
                write_pngs(results, folder)
    _finish({"out": str(out), **note, "images": len(results.images)}, as_json)


@app.command()
def model(
    out: Annotated[Path, typer.Option(help="File that ends in .safetensors, .onnx or .pt2.", show_default=False)],
    method: Annotated[str | None, typer.Option(help="A trained network of this workspace.")] = None,
    from_file: Annotated[Path | None, typer.Option("--model", help="An exported .safetensors, instead.")] = None,
    form: Annotated[
        Literal["safetensors", "onnx", "torch"] | None, typer.Option("--format", help="Else by the suffix of OUT.")
    ] = None,
    threshold: Annotated[
        float | None, typer.Option(help="Instead of the calibrated one, of the same scale, in [0, 1).")
    ] = None,
    overwrite: Overwrite = False,
    as_json: AsJson = False,
) -> None:
    """A trained network as one file, with classes and threshold.

    safetensors: for `wsol predict --model` and `Predictor.load`, without this workspace. onnx and torch (an exported
    program, .pt2): a graph from uint8 RGB images (batch, 3, side, side) to maps, normalisation inside; `wsol` in its
    metadata says the rest.

    Exit codes: 0 written; 1 bad input, or a file of yours would be replaced (see --overwrite).

    Example: wsol export model --method segmentation-foreground --out model.safetensors

    Example: wsol export model --model model.safetensors --out model.onnx
    """
    with one_line_errors():
        chosen = form or SUFFIXES.get(out.suffix)
        if chosen is None:
            raise InputError(f"--out {out}: end it in {', '.join(SUFFIXES)}, or give --format")
        if (method is None) == (from_file is None):
            raise InputError("give --method NAME, from this workspace, or --model FILE, an exported one")
        from wsol_core.core.written_files import output_file
        from wsol_core.export.place import INPUTS
        from wsol_core.prediction.model_file import read_card, write_model
        from wsol_core.prediction.workspace import find_method, with_threshold

        if from_file is not None:
            checkpoint, card = from_file, with_threshold(read_card(from_file), threshold)
        else:
            checkpoint, card = find_method(str(method), threshold)
        with output_file(out, overwrite, (*INPUTS, checkpoint)) as path:
            if chosen == "safetensors":
                write_model(checkpoint, card, path)
            else:
                from wsol_core.engine.recipe import load_network
                from wsol_core.export import graph

                (graph.write_onnx if chosen == "onnx" else graph.write_torch)(load_network(checkpoint), card, path)
    _finish({"out": str(out), "format": chosen, "method": card.method, "threshold": card.threshold}, as_json)


def _finish(summary: dict[str, object], as_json: bool) -> None:
    if as_json:
        typer.echo(json.dumps(summary, sort_keys=True))
    elif sys.stdout.isatty():
        typer.echo(f"wrote {summary['out']}")
