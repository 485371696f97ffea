"""What an exported file says about itself: plain JSON values by key, the same in every format."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from zoo import __version__
from zoo.errors import ResultError
from zoo.physics.bands import Band

KEYS = (
    "producer",
    "model",
    "options",
    "bands",
    "normalisation",
    "class_names",
    "threshold",
    "trained",
    "weights_sha256",
    "minimum_size",
    "precision",
    "output",
)
MISSING = "NaN counts as the mean of its band"


@dataclass(frozen=True)
class Description:
    """What a reader of the file has to know.

    Attributes:
        model: registered name of the architecture.
        options: keyword arguments that it was made with.
        bands: of the input, in order, with units.
        mean: of each band, subtracted inside the graph.
        std: of each band, divided by inside the graph.
        class_names: of the logits' channels.
        threshold: landslide probability from which a pixel is called landslide.
        trained: False for weights fresh from their seed.
        weights_sha256: of the bundle's ``model.safetensors``; empty for fresh weights.
        minimum_size: smallest height and width in pixels.
    """

    model: str
    options: dict[str, Any]
    bands: tuple[Band, ...]
    mean: tuple[float, ...]
    std: tuple[float, ...]
    class_names: tuple[str, ...]
    threshold: float
    trained: bool
    weights_sha256: str
    minimum_size: int

    def texts(self, *, precision: str, output: str) -> dict[str, str]:
        """Every fact as JSON text by key.

        Args:
            precision: that the file is made for: fp32, fp16, bf16 or int8.
            output: what the output is.
        """
        facts: dict[str, object] = {
            "producer": f"landslide-zoo {__version__}",
            "model": self.model,
            "options": self.options,
            "bands": [band.to_dict() for band in self.bands],
            "normalisation": {"mean": list(self.mean), "std": list(self.std), "missing": MISSING},
            # A dict of consecutive numbers is the form that QGIS Deepness reads too.
            "class_names": {str(index): name for index, name in enumerate(self.class_names)},
            "threshold": self.threshold,
            "trained": self.trained,
            "weights_sha256": self.weights_sha256,
            "minimum_size": self.minimum_size,
            "precision": precision,
            "output": output,
        }
        return {key: json.dumps(facts[key], ensure_ascii=False) for key in KEYS}


def read_facts(texts: Mapping[str, str], where: object) -> dict[str, Any]:
    """The facts of a file as values; keys that are no JSON, of other programs, are left out.

    Raises:
        ResultError: if the file was not written by ``zoo export``.
    """
    facts = {}
    for key, text in texts.items():
        try:
            facts[key] = json.loads(text)
        except ValueError:
            continue
    if not str(facts.get("producer", "")).startswith("landslide-zoo"):
        raise ResultError("was not written by zoo export", where=where, hint="Export the bundle again")
    return facts
