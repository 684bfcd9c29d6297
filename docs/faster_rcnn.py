"""Recipe: train an ordinary detector, torchvision's Faster R-CNN, on the pseudo boxes of a weakly supervised one.

    wsol export boxes detections/oicr --set detection --split train-weaksup --best-of-labels --out pseudo.json
    wsol export boxes detections/oicr --set detection --split test --out test.json
    python docs/faster_rcnn.py --train pseudo.json --test test.json --images data/rendered/detection --out found.json
    wsol evaluate detection --boxes found.json --ground-truth data/detection --out faster-rcnn.json

Both files are COCO JSON. Of the second the list of images alone is used, so no ground truth is seen. Pseudo boxes are
one per class and image, the detector's best (OICR, Section 4.4, trains Fast R-CNN on such boxes).
"""

import argparse
import json
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torchvision.models.detection import FasterRCNN
from torchvision.models.detection.rpn import AnchorGenerator
from torchvision.ops import FeaturePyramidNetwork, MultiScaleRoIAlign
from torchvision.transforms.v2.functional import horizontal_flip, to_dtype, to_image
from tqdm import tqdm

from wsol_core.backbones.create import BackboneParams, create_backbone
from wsol_core.backbones.pyramid import Backbone, OnBackbone
from wsol_core.core.written_files import output_file
from wsol_core.data.images import decode

Content = dict[str, Any]


class PyramidOfThree(OnBackbone):
    """The features of strides 8 to 32 as a feature pyramid of equal channels."""

    out_channels = 128

    def __init__(self, backbone: Backbone) -> None:
        super().__init__(backbone)
        self.levels = [max(at for at, own in enumerate(backbone.strides) if own == stride) for stride in (8, 16, 32)]
        self.pyramid = FeaturePyramidNetwork([backbone.channels[at] for at in self.levels], self.out_channels)

    def forward(self, images: Tensor) -> dict[str, Tensor]:
        """Map (B, 3, H, W) in [0, 1] to the pyramid's levels, shallow to deep."""
        features = self.backbone(images)
        found: dict[str, Tensor] = self.pyramid({str(at): features[at] for at in self.levels})
        return found


def faster_rcnn(backbone: BackboneParams, classes: int, side: int) -> FasterRCNN:
    """Faster R-CNN on any backbone of the project, which normalises its own input.

    Args:
        backbone: name and weights.
        classes: number of classes, the background not counted.
        side: shorter side of the pictures that it sees, in pixels.
    """
    pyramid = PyramidOfThree(create_backbone(backbone))
    return FasterRCNN(
        pyramid,
        classes + 1,
        min_size=side,
        max_size=2 * side,
        image_mean=[0, 0, 0],
        image_std=[1, 1, 1],
        rpn_anchor_generator=AnchorGenerator(((32,), (64,), (128,)), ((0.5, 1.0, 2.0),) * 3),
        rpn_pre_nms_top_n_train=1000,
        rpn_post_nms_top_n_train=500,
        rpn_pre_nms_top_n_test=500,
        rpn_post_nms_top_n_test=300,
        box_roi_pool=MultiScaleRoIAlign([str(at) for at in pyramid.levels], 7, 2),
        box_batch_size_per_image=128,
    )


def read_picture(root: Path, image: Content) -> Tensor:
    """An image of a COCO file, (3, H, W) float32 in [0, 1]."""
    picture: Tensor = to_dtype(to_image(decode(root / image["file_name"])), torch.float32, scale=True)
    return picture


def boxes_of(content: Content) -> dict[int, tuple[Tensor, Tensor]]:
    """Corners (N, 4) and class numbers (N,) of the images that have a box, by number."""
    rows: dict[int, list[Content]] = {}
    for annotation in content["annotations"]:
        rows.setdefault(annotation["image_id"], []).append(annotation)
    found = {}
    for number, own in rows.items():
        corner, size = torch.tensor([each["bbox"] for each in own], dtype=torch.float32).chunk(2, dim=1)
        found[number] = (torch.cat([corner, corner + size], 1), torch.tensor([each["category_id"] for each in own]))
    return found


def mirrored(boxes: Tensor, width: int) -> Tensor:
    """Boxes (N, 4) in the mirrored picture."""
    return torch.stack([width - boxes[:, 2], boxes[:, 1], width - boxes[:, 0], boxes[:, 3]], 1)


def train(model: FasterRCNN, content: Content, root: Path, epochs: int, batch: int, rate: float) -> None:
    """Train on pseudo boxes, half of the pictures mirrored; the rate rises and falls once."""
    boxes = boxes_of(content)
    images = [image for image in content["images"] if image["id"] in boxes]
    steps = max(1, epochs * (len(images) // batch))
    parameters = [each for each in model.parameters() if each.requires_grad]
    optimizer = torch.optim.SGD(parameters, rate, momentum=0.9, weight_decay=1e-4)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, rate, total_steps=steps)
    order = torch.cat([torch.randperm(len(images)) for _ in range(epochs)]).tolist()
    model.train()
    for step in tqdm(range(steps), "train", unit="step"):
        pictures, targets = [], []
        for place in order[step * batch : (step + 1) * batch]:
            picture, (own, labels) = read_picture(root, images[place]), boxes[images[place]["id"]]
            if torch.rand(()) < 0.5:
                picture, own = horizontal_flip(picture), mirrored(own, picture.shape[2])
            pictures.append(picture)
            targets.append({"boxes": own, "labels": labels})
        optimizer.zero_grad()
        loss = torch.stack(list(model(pictures, targets).values())).sum()
        torch.autograd.backward(loss)
        torch.nn.utils.clip_grad_norm_(parameters, 5.0)
        optimizer.step()
        schedule.step()


@torch.no_grad()
def detect(model: FasterRCNN, content: Content, root: Path) -> list[Content]:
    """COCO results of the images of a COCO file."""
    names = {each["id"]: each["name"] for each in content["categories"]}
    model.eval()
    rows = []
    for image in tqdm(content["images"], "detect", unit="image"):
        (found,) = model([read_picture(root, image)])
        for (x0, y0, x1, y1), label, score in zip(
            found["boxes"].tolist(), found["labels"].tolist(), found["scores"].tolist(), strict=True
        ):
            box = [x0, y0, x1 - x0, y1 - y0]
            rows.append({"image_id": image["file_name"], "category_id": names[label], "bbox": box, "score": score})
    return rows


def main() -> None:
    """Train, detect, write."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--train", type=Path, required=True, help="COCO JSON of pseudo boxes")
    parser.add_argument("--test", type=Path, required=True, help="COCO JSON that lists the images to detect in")
    parser.add_argument("--images", type=Path, required=True, help="folder that file_name counts from")
    parser.add_argument("--out", type=Path, required=True, help="COCO results to write")
    parser.add_argument("--overwrite", action="store_true", help="replace a file of yours of that name too")
    parser.add_argument("--backbone", default="efficientnet_lite0")
    parser.add_argument("--weights", default="imagenet", help="imagenet, none, or a path")
    parser.add_argument("--side", type=int, default=320, help="shorter side of a picture, pixels")
    parser.add_argument("--epochs", type=int, default=8)
    parser.add_argument("--batch", type=int, default=4)
    parser.add_argument("--rate", type=float, default=0.01)
    words = parser.parse_args()
    torch.manual_seed(0)
    pseudo, test = (json.loads(path.read_text(encoding="utf-8")) for path in (words.train, words.test))
    backbone = BackboneParams(name=words.backbone, weights=words.weights)
    model = faster_rcnn(backbone, len(pseudo["categories"]), words.side)
    train(model, pseudo, words.images, words.epochs, words.batch, words.rate)
    with output_file(words.out, words.overwrite, (words.train, words.test)) as path:
        path.write_text(json.dumps(detect(model, test, words.images)), encoding="utf-8")


if __name__ == "__main__":
    main()
