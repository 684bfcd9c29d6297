"""The command `wsol predict`; it imports what it needs, so that `wsol --help` answers at once."""

import json
import sys
from pathlib import Path
from typing import Annotated, Literal

import typer

from wsol_core.core.errors import InputError, one_line_errors


def predict(
    images: Annotated[list[Path], typer.Argument(help="Image files, and folders of them.", show_default=False)],
    out: Annotated[Path, typer.Option(help="Folder for JSON, masks and overlays.", show_default=False)],
    method: Annotated[str | None, typer.Option(help="A trained network of this workspace.")] = None,
    model: Annotated[Path | None, typer.Option(help="A file of `wsol export model`, instead of a method.")] = None,
    components: Annotated[
        Literal["largest", "all"] | None, typer.Option(help="One box per image, or one per object; else as trained.")
    ] = None,
    threshold: Annotated[
        float | None, typer.Option(help="Instead of the calibrated one, of the same scale, in [0, 1).")
    ] = None,
    batch: Annotated[int, typer.Option(min=1, help="Images at once.")] = 16,
    max_pixels: Annotated[
        int | None, typer.Option(min=1, help="Largest image that is decoded, width times height; else 89478485.")
    ] = None,
    follow_links: Annotated[bool, typer.Option("--follow-links", help="Look into linked folders too.")] = False,
    device: Annotated[str, typer.Option(help="auto, cpu, cuda, cuda:1, mps.")] = "auto",
    overwrite: Annotated[
        bool,
        typer.Option(
            "--overwrite", help="Replace predictions of other settings, and your own files of the same names."
        ),
    ] = False,
    as_json: Annotated[bool, typer.Option("--json", help="A summary as JSON on standard output.")] = False,
) -> None:
    """Boxes, masks and overlays of any images, by a trained network.

    Writes to OUT: predictions.json; per image images/NAME.json, masks/NAME.png and overlays/NAME.jpg. A run that was
    stopped goes on where it was; other files in OUT stay. Boxes are x0, y0, x1, y1 in pixels of the image as displayed,
    half-open. A network whose maps are of the image's label takes the class that it finds likeliest. An
    image that cannot be read is named on standard error and left out, as are linked folders, links to nothing and what
    is no file; the others go on. WSOL_WORKERS sets the threads.

    Exit codes: 0 all images done; 1 an image could not be read, bad input, or a file of yours would be replaced (see
    --overwrite).

    Example: wsol predict photos/ --method segmentation-foreground --out found

    Example: wsol predict a.jpg b.png --model model.safetensors --components all --out found --json
    """
    with one_line_errors():
        if (method is None) == (model is None):
            raise InputError("give --method NAME, from this workspace, or --model FILE, an exported one")
        if out.resolve() in {place.resolve() for place in images}:
            raise InputError(f"--out {out}: is what the images come from; choose another folder")
        from tqdm import tqdm

        from wsol_core.prediction.outputs import Outputs
        from wsol_core.prediction.predictor import Predictor
        from wsol_core.prediction.run import predict_files
        from wsol_core.prediction.sources import find_images

        found = find_images(images, out, follow_links)
        predictor = (
            Predictor.load(model, device, threshold, components)
            if model is not None
            else Predictor.of_method(str(method), device, threshold, components)
        )
        predictor.max_pixels = max_pixels or predictor.max_pixels
        of_network = [Path("data"), Path("params.yaml")] if model is None else [model]
        inputs = [*(source.path for source in found.sources), *of_network]
        outputs = Outputs(out, predictor, overwrite, inputs)
        done = predict_files(predictor, found, outputs, batch, lambda line: tqdm.write(line, file=sys.stderr))
    boxes = sum(len(record["boxes"]) for record in done.records)
    if as_json:
        summary = {
            "out": str(out), "method": predictor.card.method, "threshold": predictor.card.threshold,
            "images": len(found.sources), "done": len(done.records), "done_before": done.kept, "boxes": boxes,
            "failed": done.failed,
        }  # fmt: skip
        typer.echo(json.dumps(summary, sort_keys=True))
    elif sys.stdout.isatty():
        typer.echo(f"{len(done.records)} of {len(found.sources)} images ({done.kept} before), {boxes} boxes: {out}")
    if done.failed:
        raise typer.Exit(1)
