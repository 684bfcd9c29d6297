"""A trained network as a graph for other runtimes: ONNX, or PyTorch's own exported program.

Input `images`: `(batch, 3, side, side)` uint8 RGB from 0 to 255; any batch. The whole image is squashed to the square,
antialiased, with the interpolation that the description names; the normalisation is inside the graph. Output `maps`:
`(batch, h, w)` float32 in [0, 1]; and `classes`, `(batch, C)` probabilities, of a network that tells classes. A box is
that of the largest connected part of the map above `threshold` of `scale`, after a bilinear resize to
`localize.resolution`, see `regions.map_box`. The description is a JSON text, `wsol` in ONNX's metadata,
`wsol export.json` in the program's file.

The graph computes in float32; where the pipeline runs under bf16 autocast, its maps differ by that rounding. Views of
`inference` are not in the graph: average over them outside.
"""

import json
import logging
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from wsol_core.backbones.create import OnBackbone
from wsol_core.core.errors import InputError
from wsol_core.engine.inference import views_of
from wsol_core.engine.recipe import Answer, TrainedNetwork
from wsol_core.prediction.model_file import ModelCard

OPSET = 18


class Graph(nn.Module):
    """What is exported: images `(B, 3, side, side)` uint8 to maps, and classes where there are."""

    def __init__(self, model: OnBackbone, look: Callable[[OnBackbone, Tensor], Answer]) -> None:
        super().__init__()
        self.model = model
        self._look = look

    def forward(self, images: Tensor) -> tuple[Tensor, ...]:
        """Maps `(B, h, w)`, and probabilities `(B, C)`."""
        answer = self._look(self.model, images)
        maps = answer.maps.float()
        return (maps,) if answer.classes is None else (maps, answer.classes.float())


def description(network: TrainedNetwork, card: ModelCard) -> dict[str, Any]:
    """What a caller has to know: the card, and how images come in."""
    views = views_of(network.params, card.inference)
    return {
        **card.model_copy(update={"inference": views}).model_dump(mode="json"),
        "input": {
            "channels": "RGB",
            "dtype": "uint8",
            "range": [0, 255],
            "side": network.params.training.inference_side,
            "interpolation": network.model.backbone.interpolation,
        },
    }


def export_program(network: TrainedNetwork) -> torch.export.ExportedProgram:
    """The network as a program whose batch is free.

    Raises:
        InputError: its maps are gradients, which no such program holds.
    """
    if network.recipe.needs_gradients:
        raise InputError("this method's maps are gradients, which a graph does not hold; export it as .safetensors")
    graph = Graph(network.model, network.recipe.look(network.params)).eval()
    side = network.params.training.inference_side
    example = torch.zeros(2, 3, side, side, dtype=torch.uint8)
    with torch.no_grad():
        return torch.export.export(graph, (example,), dynamic_shapes=({0: torch.export.Dim("batch", min=1)},))


def write_torch(network: TrainedNetwork, card: ModelCard, path: Path) -> None:
    """Write the program; `torch.export.load(path).module()(images)` runs it."""
    text = json.dumps(description(network, card), sort_keys=True)
    with quiet():
        torch.export.save(export_program(network), path, extra_files={"wsol export.json": text})


def write_onnx(network: TrainedNetwork, card: ModelCard, path: Path) -> None:
    """Write an ONNX model, weights inside.

    Raises:
        InputError: the packages that make it are missing.
    """
    if find_spec("onnxscript") is None or find_spec("onnx") is None:
        raise InputError('ONNX needs two more packages: `pip install "wsol[onnx]"`')
    import onnx

    program = export_program(network)
    names = ["maps", "classes"][: len(program.graph_signature.user_outputs)]
    with quiet():
        made = torch.onnx.export(
            program, input_names=["images"], output_names=names, opset_version=OPSET, dynamo=True, verbose=False
        )
    assert made is not None
    model = made.model_proto
    onnx.helper.set_model_props(model, {"wsol": json.dumps(description(network, card), sort_keys=True)})
    onnx.checker.check_model(model)
    path.write_bytes(model.SerializeToString())


@contextmanager
def quiet() -> Iterator[None]:
    """Without the exporters' remarks, which tell a caller nothing."""
    loggers = [logging.getLogger(name) for name in ("torch.onnx", "torch.export", "onnxscript")]
    before = [logger.level for logger in loggers]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        for logger in loggers:
            logger.setLevel(logging.ERROR)
        try:
            yield
        finally:
            for logger, level in zip(loggers, before, strict=True):
                logger.setLevel(level)
