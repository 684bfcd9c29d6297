"""Boxes: `(N, 4)` float32 arrays `x0, y0, x1, y1` in pixels of the original image, half-open.

A box covers the pixels `x0 <= x < x1`, so its width is `x1 - x0`. The only converters from other
conventions stand here.
"""

import numpy as np
import numpy.typing as npt

Boxes = npt.NDArray[np.float32]

BOX_COLUMNS = ("x0", "y0", "x1", "y1")


def from_xywh(boxes: npt.ArrayLike) -> Boxes:
    """From corner and size (COCO, CUB).

    Example:
        >>> from_xywh([[10, 20, 5, 6]]).tolist()
        [[10.0, 20.0, 15.0, 26.0]]
    """
    with np.errstate(over="ignore", invalid="ignore"):  # what is too large becomes infinite
        x, y, width, height = np.asarray(boxes, dtype=np.float32).reshape(-1, 4).T
        return np.stack([x, y, x + width, y + height], axis=1)


def from_inclusive(boxes: npt.ArrayLike) -> Boxes:
    """From 1-based corners with the last pixel inside (VOC, ImageNet).

    Example:
        >>> from_inclusive([[1, 1, 3, 2]]).tolist()
        [[0.0, 0.0, 3.0, 2.0]]
    """
    with np.errstate(over="ignore"):  # what is too large becomes infinite
        return np.asarray(boxes, dtype=np.float32).reshape(-1, 4) - np.array([1, 1, 0, 0], dtype=np.float32)


def to_xywh(boxes: Boxes) -> Boxes:
    """To corner and size (COCO): the inverse of `from_xywh`.

    Example:
        >>> to_xywh(np.array([[10, 20, 15, 26]], dtype=np.float32)).tolist()
        [[10.0, 20.0, 5.0, 6.0]]
    """
    return np.concatenate([boxes[:, :2], boxes[:, 2:] - boxes[:, :2]], axis=1, dtype=np.float32)


def to_inclusive(boxes: Boxes) -> Boxes:
    """To 1-based corners with the last pixel inside (VOC): the inverse of `from_inclusive`.

    Example:
        >>> to_inclusive(np.array([[0, 0, 3, 2]], dtype=np.float32)).tolist()
        [[1.0, 1.0, 3.0, 2.0]]
    """
    return boxes + np.array([1, 1, 0, 0], dtype=np.float32)


def to_centre(boxes: Boxes, sizes: npt.NDArray[np.floating]) -> npt.NDArray[np.float64]:
    """To centre and size as shares of the image (YOLO); `sizes (N, 2)` are the images' width and height, pixels.

    Example:
        >>> to_centre(np.array([[10, 20, 30, 40]], dtype=np.float32), np.array([[100.0, 100.0]])).tolist()
        [[0.2, 0.3, 0.2, 0.2]]
    """
    low, high = boxes[:, :2].astype(np.float64), boxes[:, 2:].astype(np.float64)
    return np.concatenate([(low + high) / 2 / sizes, (high - low) / sizes], axis=1)


def from_centre(boxes: npt.ArrayLike, sizes: npt.ArrayLike) -> Boxes:
    """From centre and size as shares of the image (YOLO): the inverse of `to_centre`.

    Example:
        >>> from_centre([[0.25, 0.5, 0.5, 0.25]], [[8, 4]]).tolist()
        [[0.0, 1.5, 4.0, 2.5]]
    """
    with np.errstate(over="ignore", invalid="ignore"):  # what is too large becomes infinite
        centre, extent = np.asarray(boxes, dtype=np.float64).reshape(-1, 2, 2).swapaxes(0, 1) * np.asarray(sizes)
        return np.concatenate([centre - extent / 2, centre + extent / 2], axis=1).astype(np.float32)


def turn(boxes: Boxes, width: float, height: float, orientation: int) -> Boxes:
    """Boxes of a picture stored as `width x height`, in the picture as its EXIF orientation (5 to 8) shows it.

    Example:
        >>> turn(np.array([[0, 0, 10, 5]], dtype=np.float32), 40, 20, 6).tolist()
        [[15.0, 0.0, 20.0, 10.0]]
    """
    x0, y0, x1, y1 = boxes.T
    left, right = (y0, y1) if orientation in (5, 8) else (height - y1, height - y0)
    top, bottom = (x0, x1) if orientation in (5, 6) else (width - x1, width - x0)
    return np.stack([left, top, right, bottom], axis=1).astype(np.float32)


def area(boxes: Boxes) -> npt.NDArray[np.float32]:
    """Areas `(N,)`; 0 for an empty or inverted box.

    Example:
        >>> area(np.array([[0, 0, 3, 2], [5, 5, 4, 9]], dtype=np.float32)).tolist()
        [6.0, 0.0]
    """
    width, height = np.maximum(boxes[:, 2:] - boxes[:, :2], 0).T
    return np.asarray(width * height, dtype=np.float32)


def iou(first: Boxes, second: Boxes) -> npt.NDArray[np.float32]:
    """Intersection over union `(N, M)` of every pair; 0 where the union is empty.

    Example:
        >>> boxes = np.array([[0, 0, 4, 4], [0, 0, 4, 2], [8, 8, 9, 9]], dtype=np.float32)
        >>> iou(boxes[:1], boxes).tolist()
        [[1.0, 0.5, 0.0]]
    """
    low = np.maximum(first[:, None, :2], second[None, :, :2])
    high = np.minimum(first[:, None, 2:], second[None, :, 2:])
    overlap = np.maximum(high - low, 0).prod(axis=2)
    union = area(first)[:, None] + area(second)[None, :] - overlap
    return np.asarray(np.divide(overlap, union, out=np.zeros_like(overlap), where=union > 0), dtype=np.float32)


def paired_iou(first: Boxes, second: Boxes) -> npt.NDArray[np.float32]:
    """Intersection over union `(N,)` of the boxes in the same row; 0 where the union is empty.

    Example:
        >>> boxes = np.array([[0, 0, 4, 4], [0, 0, 4, 2]], dtype=np.float32)
        >>> paired_iou(boxes, boxes[::-1]).tolist()
        [0.5, 0.5]
    """
    overlap = np.maximum(np.minimum(first[:, 2:], second[:, 2:]) - np.maximum(first[:, :2], second[:, :2]), 0).prod(1)
    union = area(first) + area(second) - overlap
    return np.asarray(np.divide(overlap, union, out=np.zeros_like(overlap), where=union > 0), dtype=np.float32)


def clip(boxes: Boxes, width: float, height: float) -> Boxes:
    """The part of each box that lies inside an image of `width x height`.

    Example:
        >>> clip(np.array([[-5, 2, 30, 8]], dtype=np.float32), 20, 10).tolist()
        [[0.0, 2.0, 20.0, 8.0]]
    """
    return np.clip(boxes, 0, np.array([width, height, width, height], dtype=np.float32))


def rasterize(boxes: Boxes, widths: npt.ArrayLike, heights: npt.ArrayLike, resolution: int) -> npt.NDArray[np.uint8]:
    """Masks of boxes on a coarse grid that covers the image: 1 where a cell's centre lies inside the box.

    WSFL (3.3.2) resizes the box to the grid and leaves rounding open: the centre rule rounds each side to the nearest
    cell border. A box that holds no centre marks the one cell that its own centre lies in.

    Args:
        boxes: `(N, 4)`, one per image, in its pixels.
        widths: `(N,)` of the images, in pixels.
        heights: `(N,)` of the images, in pixels.
        resolution: side of the masks.

    Returns:
        `(N, resolution, resolution)` uint8.

    Example:
        >>> rasterize(np.array([[0, 0, 50, 100]], dtype=np.float32), [100], [100], 2).tolist()
        [[[1, 0], [1, 0]]]
    """
    extent = np.stack([widths, heights, widths, heights], axis=1).astype(np.float64)
    x0, y0, x1, y1 = (boxes.astype(np.float64) / extent * resolution).T
    centres = np.arange(resolution) + 0.5

    def inside(low: npt.NDArray[np.float64], high: npt.NDArray[np.float64]) -> npt.NDArray[np.bool_]:
        hit = (centres >= low[:, None]) & (centres < high[:, None])
        middle = np.clip(((low + high) / 2).astype(int), 0, resolution - 1)
        none = ~hit.any(axis=1)
        hit[none, middle[none]] = True
        return hit

    return (inside(y0, y1)[:, :, None] & inside(x0, x1)[:, None, :]).astype(np.uint8)
