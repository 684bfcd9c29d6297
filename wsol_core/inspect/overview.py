"""What a data set holds, whatever the image: classes, splits, and each revision's layers, origins and thresholds."""

from typing import Any

from wsol_core.data.index import SPLITS
from wsol_core.inspect.catalogue import Catalogue
from wsol_core.inspect.layers import methods
from wsol_core.inspect.origins import origin

Answer = dict[str, Any]
LAYER_FIELDS = ("key", "group", "title", "kind", "colour", "path")


def describe(catalogues: list[Catalogue]) -> Answer:
    """A data set of one or more revisions; classes, splits and measured methods are those of the first."""
    first = catalogues[0]
    counts = first.index.table["split"].value_counts()
    return {
        "images": len(first.index.table),
        "classes": list(first.index.classes),
        "splits": {split: int(counts[split]) for split in SPLITS if split in counts},
        "measured": list(first.measured()),
        "reference": first.reference()[0],
        "revisions": [_holdings(each) for each in catalogues],
    }


def _holdings(catalogue: Catalogue) -> Answer:
    if not catalogue.exists:
        return {"layers": [], "methods": {}}
    layers = catalogue.layers()
    return {
        "layers": [
            {name: getattr(layer, name) for name in LAYER_FIELDS} | {"origin": origin(catalogue.workspace, layer.path)}
            for layer in layers.values()
        ],
        "methods": {name: _threshold(catalogue, name) for name in methods(layers)},
    }


def _threshold(catalogue: Catalogue, method: str) -> Answer | None:
    chosen = catalogue.threshold(method)
    return None if chosen is None else {"threshold": chosen.value, "scale": chosen.scale}
