"""A trained network as a Python object, from image to boxes in three lines.

    from wsol_core.prediction.predictor import Predictor
    predictor = Predictor.load("model.safetensors")   # of `wsol export model`; or Predictor.of_method("foreground")
    boxes = predictor.boxes("photo.jpg")              # (N, 4) float32 x0, y0, x1, y1 in pixels, half-open

`predictor.predict(image)` gives scores, the mask and the class as well. Boxes are those that the pipeline finds.
"""

import hashlib
from pathlib import Path
from typing import Literal, NamedTuple, Self

import numpy as np
import numpy.typing as npt
import torch
from PIL import Image
from torch import Tensor

from wsol_core.backbones.create import OnBackbone
from wsol_core.core.boxes import Boxes
from wsol_core.core.errors import InputError
from wsol_core.core.regions import map_box, map_boxes
from wsol_core.data.images import MAX_PIXELS, Interpolation, Picture, decode, decode_squashed
from wsol_core.engine.devices import supported_precision
from wsol_core.engine.inference import average_views, views_of
from wsol_core.engine.recipe import Answer, TrainedNetwork, load_network
from wsol_core.prediction.masks import instance_mask
from wsol_core.prediction.model_file import ModelCard, read_card
from wsol_core.prediction.workspace import find_method, with_threshold

AnyImage = str | Path | Image.Image | Picture
Components = Literal["largest", "all"]

FILTERS = {"bilinear": Image.Resampling.BILINEAR, "bicubic": Image.Resampling.BICUBIC}


class Prediction(NamedTuple):
    """What is found in one image of `width x height`."""

    boxes: Boxes
    """`(N, 4)`, best first; never none: where the map is nowhere above the threshold, the whole image"""
    scores: npt.NDArray[np.float32]
    """`(N,)` in [0, 1], see `localize.localize`"""
    mask: npt.NDArray[np.uint8]
    """`(height, width)`: k on the object of the k-th box, from 1; 0 elsewhere"""
    score_map: npt.NDArray[np.float32]
    """`(h, w)` in [0, 1], the whole image, squashed"""
    label: str | None
    """the class that the network finds likeliest; None of a network that tells no classes"""
    probability: float | None
    """of the class"""


class Seen(NamedTuple):
    """What the network says of one image: its map `(h, w)` in [0, 1], and `(C,)` probabilities or None."""

    score_map: npt.NDArray[np.float32]
    classes: npt.NDArray[np.float32] | None


class Predictor:
    """A trained network with its threshold, on a device.

    Args:
        network: the network.
        card: classes, threshold and how maps become boxes.
        device: auto (CUDA, else Apple's, else the CPU), cpu, cuda, cuda:1, mps, ...

    Attributes:
        card: see above.
        side: of the squashed pictures that it sees, pixels.
        digest: of its weights.
        max_pixels: width times height of the largest file that is decoded; may be set.

    Raises:
        InputError: there is no such device, or the network has no maps.
    """

    def __init__(self, network: TrainedNetwork, card: ModelCard, device: str = "auto") -> None:
        training = network.params.training
        self._views = views_of(network.params, card.inference)
        self.max_pixels = MAX_PIXELS
        self.card, self.side, self.digest = card, training.inference_side, weights_digest(network.model)
        self._look = network.recipe.look(network.params)
        self._device = find_device(device)
        self._model = network.model.eval().to(self._device, memory_format=torch.channels_last)  # type: ignore[call-overload]
        self._autocast = supported_precision(training.precision, self._device.type) == "bf16-mixed"

    @classmethod
    def load(
        cls,
        path: str | Path,
        device: str = "auto",
        threshold: float | None = None,
        components: Components | None = None,
    ) -> Self:
        """From an exported file; threshold and components (one box, or one per object) are its own unless given.

        Raises:
            InputError: it is no exported file, or the threshold is impossible.
        """
        return cls._of(Path(path), read_card(Path(path)), device, threshold, components)

    @classmethod
    def of_method(
        cls, method: str, device: str = "auto", threshold: float | None = None, components: Components | None = None
    ) -> Self:
        """From the workspace, which is the current folder, by the name of a method.

        Raises:
            InputError: there is no such method, or it is not trained or calibrated.
        """
        path, card = find_method(method, threshold)
        return cls._of(path, card, device, threshold, components)

    @classmethod
    def _of(
        cls, path: Path, card: ModelCard, device: str, threshold: float | None, components: Components | None
    ) -> Self:
        card = with_threshold(card, threshold)
        if components is not None:
            localize = card.localize.model_copy(update={"components": components})
            card = card.model_copy(update={"localize": localize})
        return cls(load_network(path), card, device)

    def boxes(self, image: AnyImage) -> Boxes:
        """The boxes `(N, 4)` of an image: a path, a PIL image, or `(H, W, 3)` uint8 RGB.

        Raises:
            InputError: the file is no usable image.
        """
        return self.predict(image).boxes

    def predict(self, image: AnyImage) -> Prediction:
        """Everything that is found in an image: a path, a PIL image, or `(H, W, 3)` uint8 RGB.

        Raises:
            InputError: the file is no usable image.
        """
        height, width = as_picture(image, self.max_pixels).shape[:2]
        return self.locate(self.look([self.squash(image)])[0], width, height)

    def squash(self, image: AnyImage) -> Picture:
        """The image as the network sees it, `(side, side, 3)` uint8 RGB.

        Raises:
            InputError: the file is no usable image.
        """
        interpolation: Interpolation = self._model.backbone.interpolation
        if isinstance(image, str | Path):
            return decode_squashed(Path(image), self.side, self.side, interpolation, self.max_pixels)
        whole = Image.fromarray(as_picture(image))
        return np.array(whole.resize((self.side, self.side), FILTERS[interpolation]))

    @torch.no_grad()
    def look(self, pictures: list[Picture]) -> list[Seen]:
        """What the network says of B pictures of `squash`, at once; scores are rounded as in a map store."""
        answers: list[Answer] = []

        def predict(model: OnBackbone, view: Tensor, _: Tensor) -> Tensor:
            answers.append(self._look(model, view))
            return answers[-1].maps[:, None]

        images = torch.from_numpy(np.stack(pictures)).permute(0, 3, 1, 2).to(self._device)
        with torch.autocast(self._device.type, torch.bfloat16, enabled=self._autocast):
            found = average_views(self._model, predict, images, torch.empty(0), self._views)[:, 0]
        maps = found.float().cpu().numpy().astype(np.float16).astype(np.float32)
        first = answers[0].classes
        classes = [None] * len(maps) if first is None else first.float().cpu().numpy()
        return [Seen(own, probabilities) for own, probabilities in zip(maps, classes, strict=True)]

    def locate(self, seen: Seen, width: int, height: int) -> Prediction:
        """The boxes of what was seen of an image of `width x height`, and the rest of a prediction."""
        score_map, params, threshold = seen.score_map, self.card.localize, self.card.threshold
        resolution, scale = params.resolution, self.card.scale
        if params.components == "all":
            boxes, scores = map_boxes(score_map, threshold, width, height, resolution, scale, params.min_area)
        else:
            boxes = map_box(score_map, threshold, width, height, resolution, scale)[None]
            scores = score_map.max(keepdims=True)[0]
        mask = instance_mask(score_map, boxes, width, height, threshold, resolution, scale)
        if seen.classes is None:
            return Prediction(boxes, scores, mask, score_map, None, None)
        best = int(seen.classes.argmax())
        return Prediction(boxes, scores, mask, score_map, self.card.classes[best], float(seen.classes[best]))


def as_picture(image: AnyImage, max_pixels: int = MAX_PIXELS) -> Picture:
    """An image as `(H, W, 3)` uint8 RGB.

    Raises:
        InputError: the file is no usable image or larger than `max_pixels`, or the array has another shape or type.
    """
    if isinstance(image, str | Path):
        return decode(Path(image), max_pixels)
    picture = np.asarray(image.convert("RGB")) if isinstance(image, Image.Image) else image
    if picture.ndim != 3 or picture.shape[2] != 3 or picture.dtype != np.uint8 or 0 in picture.shape:
        raise InputError(f"an array of shape {picture.shape} and type {picture.dtype}; give (H, W, 3) uint8 RGB")
    return picture


def weights_digest(model: torch.nn.Module) -> str:
    """BLAKE2b of a network's tensors and their names, 16 bytes in hex."""
    digest = hashlib.blake2b(digest_size=16)
    for name, tensor in sorted(model.state_dict().items()):
        digest.update(name.encode() + tensor.detach().cpu().contiguous().numpy().tobytes())
    return digest.hexdigest()


def find_device(name: str) -> torch.device:
    """The device of this name; `auto` is the best one here.

    Raises:
        InputError: there is none.
    """
    if name == "auto":
        apple = torch.backends.mps.is_available()
        return torch.device("cuda" if torch.cuda.is_available() else "mps" if apple else "cpu")
    try:
        device = torch.device(name)
        torch.empty(0, device=device)
    except (RuntimeError, AssertionError) as error:
        reason = " ".join(str(error).splitlines()[:1])
        raise InputError(f"--device {name}: not to be had ({reason}); take cpu or auto") from error
    return device
