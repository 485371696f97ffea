"""The predictor of a map in the form that is fastest where it runs, and the same form on every machine."""

from __future__ import annotations

import os
import tempfile
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import torch
from numpy.typing import NDArray

from zoo.deploy import optimize
from zoo.deploy.remembered import recall, remember, signature
from zoo.errors import ZooError
from zoo.mapping.forward import TileForward, padded, single_threaded_passes, smallest_side
from zoo.mapping.scene import Scene
from zoo.mapping.tiling import Plan
from zoo.training.predictor import Predictor

MapPrecision = Literal["fp32", "bf16", "auto"]

FEWEST_TILES = 32
"""With fewer tiles than this, looking for the fastest form takes longer than it saves."""

AS_TRAINED = "as it was trained"


@dataclass(frozen=True)
class Form:
    """How a predictor computes; can be sent to other machines.

    Attributes:
        name: of the form, which stands in the map's tags and in the key of its journal.
        precision: that was asked for.
        example: float32 (C, h, w), a tile of the scene; None for the predictor as it was trained.
        choice: what was remembered of measuring.
        threshold: landslide probability of the mask, by which bf16 is judged.
    """

    name: str
    precision: MapPrecision
    example: NDArray[np.float32] | None
    choice: dict[str, Any] | None
    threshold: float


def fastest(
    predictor: Predictor, scene: Scene, plan: Plan, precision: MapPrecision, device: torch.device, threshold: float
) -> tuple[Predictor, Form, tuple[str, ...]]:
    """Choose by measuring, once for a machine, a model and a tile; small scenes in fp32 are not worth it.

    Args:
        predictor: on ``device``.
        scene, plan: of the map; a tile from their middle is the example.
        precision: see :func:`zoo.deploy.optimize`.
        device: where it will run.
        threshold: of the bundle.

    Returns:
        The predictor to use, its form, and what the user should know.
    """
    if precision == "fp32" and plan.tile_count < FEWEST_TILES:
        return predictor, Form(AS_TRAINED, precision, None, None, threshold), ()
    rows = plan.rows.tiles[max(0, len(plan.rows) // 2 - 1)]
    columns = plan.columns.tiles[max(0, len(plan.columns) // 2 - 1)]
    image = padded(scene.read(rows, columns), smallest_side(predictor))
    image[~np.isfinite(image)] = np.nan
    with single_threaded_passes():
        example = torch.from_numpy(image)[None].to(device)
        found = _optimized(predictor, example, precision, threshold)
        choice = recall(signature(predictor.model, predictor.normalise(example), precision))
    report: Any = found.model.report
    return found, Form(str(report.chosen), precision, image, choice, threshold), tuple(report.messages)


def _optimized(predictor: Predictor, example: torch.Tensor, precision: MapPrecision, threshold: float) -> Predictor:
    found = optimize(predictor, example, precision, threshold=threshold)
    assert isinstance(found, Predictor)
    # The optimised model still refuses what is smaller, and does not say so in a way that can be asked.
    inner: Any = found.model
    inner.minimum_size = smallest_side(predictor)
    return found


@dataclass(frozen=True)
class ForwardMaker:
    """Makes the forward pass of a map on another machine, in the form that the first machine chose.

    Attributes:
        predictor: as it was trained, on the CPU.
        form: to take.
        tta: see :class:`zoo.mapping.forward.TileForward`.
    """

    predictor: Predictor
    form: Form
    tta: bool

    def __call__(self, device: torch.device) -> TileForward:
        """A forward pass on ``device``.

        Raises:
            ZooError: if this machine cannot compute in that form: its results would differ.
        """
        predictor = self.predictor.to(device).eval()
        if self.form.example is not None:
            predictor = self._same_form(predictor, torch.from_numpy(self.form.example)[None].to(device))
        return TileForward(predictor, device, tta=self.tta)

    def _same_form(self, predictor: Predictor, example: torch.Tensor) -> Predictor:
        form = self.form
        before = os.environ.get("ZOO_CACHE")
        with single_threaded_passes(), tempfile.TemporaryDirectory() as folder:
            # What is remembered here of this machine's own measurements stays as it is.
            os.environ["ZOO_CACHE"] = folder
            try:
                if form.choice is not None:
                    remember(signature(predictor.model, predictor.normalise(example), form.precision), form.choice)
                found = _optimized(predictor, example, form.precision, form.threshold)
            finally:
                os.environ.pop("ZOO_CACHE")
                if before is not None:
                    os.environ["ZOO_CACHE"] = before
        chosen = str(getattr(found.model, "report").chosen)  # noqa: B009 - a module's attribute of another type
        if chosen != form.name:
            raise ZooError(
                f"computes in the form {chosen!r} and not in {form.name!r}, so its pixels would differ",
                where=os.uname().nodename,
                hint="Use machines of one kind, or --precision fp32",
            )
        return found
