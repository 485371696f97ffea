"""Adapting a bundle to a region without labels: its normalisation statistics, from unlabelled patches of that region.

What changes is what the network takes for usual: the mean and spread of each channel at each batch-norm layer. No
weight is trained and no label is read. Whether that helps is decided without labels too (:func:`adapt`).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor

from zoo.errors import ConfigError, ModelError
from zoo.training.bundle import Bundle
from zoo.training.label_free import Score, choose, score
from zoo.training.patch_sample import PatchSample
from zoo.training.running_statistics import blended, distances, replace_statistics, store, stored, tracked_layers

SHARES = (0.0, 0.5, 1.0)
"""Shares of the target in the statistics among which ``auto`` chooses; 0 is the bundle as it was."""
PIXELS = 2**21
"""Most pixels of the target that are held: 128 patches of 128 x 128 [O]."""

Progress = Callable[[int, int], None]
"""Called with how much is done, and how much it is at most."""


def adapt(
    bundle: Bundle,
    patches: Iterable[Tensor],
    *,
    share: float | None = None,
    device: torch.device | str = "cpu",
    batch_size: int = 16,
    pixels: int = PIXELS,
    seed: int = 0,
    target: dict[str, Any] | None = None,
    progress: Progress | None = None,
) -> Bundle:
    """Adapt a bundle to the region that ``patches`` come from.

    Args:
        bundle: of a model with batch norm.
        patches: batches, float32 ``(B, C, H, W)``, in the units of the bundle's bands, NaN where missing; iterated
            once. How patches are batched does not change the result. Patches without a valid pixel are left out.
        share: of the target in the statistics, in [0, 1]; ``None`` chooses among :data:`SHARES` without labels.
        device: to compute on.
        batch_size: patches that are computed together.
        pixels: most pixels to hold; of more patches a sample is drawn, each with the same chance.
        seed: of that sample.
        target: what the caller knows of the region (name, fingerprint ...); JSON values, kept in the bundle.
        progress: told how far the work is.

    Returns:
        A bundle with other running statistics, the same threshold, no metrics (those of the source are no longer
        true), and in ``adaptation`` what was done, why, and the numbers that decided.

    Raises:
        ModelError: if the model has no running statistics.
        DataError: if there is no patch, none with a valid pixel, or one with another number of bands or an infinity.
        ConfigError: if the share is outside [0, 1].
        ResultError: if the bundle's statistics are not finite.
    """
    if share is not None and not 0 <= share <= 1:
        raise ConfigError(f"a share of {share:g} is not between 0 and 1", where="option share")
    tried = SHARES if share is None else (share,)
    adapter = Adapter(bundle, patches, device=device, batch_size=batch_size, pixels=pixels, seed=seed)
    total = adapter.layers + len(tried)
    tell = progress or (lambda _done, _total: None)
    adapter.estimate(lambda done: tell(done, total))
    scores = {}
    for number, candidate in enumerate(tried):
        scores[candidate] = adapter.score(candidate)
        tell(adapter.layers + 1 + number, total)
    chosen = choose(scores) if share is None else share
    return adapter.adapted(chosen, scores, "the criterion" if share is None else "the user", target or {})


class Adapter:
    """A bundle, patches of another region, and the statistics of both: what :func:`adapt` is made of.

    Args:
        bundle: as for :func:`adapt`.
        patches: as for :func:`adapt`.
        device: to compute on.
        batch_size: patches that are computed together.
        pixels: most pixels to hold.
        seed: of the sample.

    Attributes:
        layers: number of layers with running statistics.
        sample: the patches that are held.
    """

    def __init__(
        self,
        bundle: Bundle,
        patches: Iterable[Tensor],
        *,
        device: torch.device | str = "cpu",
        batch_size: int = 16,
        pixels: int = PIXELS,
        seed: int = 0,
    ) -> None:
        self.bundle = bundle
        self.device = torch.device(device)
        self.batch_size = batch_size
        self.predictor = bundle.predictor()
        self.layers = len(tracked_layers(self.predictor.model))
        if not self.layers:
            raise ModelError(
                "has no normalisation layer with running statistics (batch norm), so there is nothing to re-estimate",
                where=f"model {bundle.model!r}",
                hint="Use the bundle as it is",
            )
        self._source = self._target = stored(self.predictor.model)
        self.sample = PatchSample.draw(patches, [band.name for band in bundle.bands], pixels=pixels, seed=seed)
        self.predictor.to(self.device, memory_format=bundle.compute_format.memory_format)

    def estimate(self, on_layer: Callable[[int], None] | None = None) -> None:
        """Compute the statistics of the patches."""
        replace_statistics(self.predictor.model, self._run, self._batches, on_layer)
        self._target = stored(self.predictor.model)

    def use(self, share: float) -> None:
        """Let the predictor work with a blend."""
        store(self.predictor.model, blended(self._source, self._target, share))

    def score(self, share: float) -> Score:
        """What can be said without labels of the predictions with a blend."""
        self.use(share)
        return score(self.probability, self._batches(), self.bundle.threshold)

    def adapted(self, share: float, scores: dict[float, Score], chosen_by: str, target: dict[str, Any]) -> Bundle:
        """The bundle with a blend, and with a record of how it came about."""
        self.use(share)
        moved = distances(self._source, self._target)
        record = {
            "source": {"weights_sha256": self.bundle.weights_sha256, "adaptation": self.bundle.adaptation},
            "target": {
                **target,
                "patches": self.sample.seen,
                "blank": self.sample.blank,
                "used": len(self.sample),
            },
            "share": share,
            "chosen_by": chosen_by,
            "candidates": [{"share": one, **found.to_dict()} for one, found in scores.items()],
            "layers": self.layers,
            "distance": math.sqrt(sum(value * value for value in moved.values()) / len(moved)),
            "transductive": "figures on the target's own images are of images that were seen, without their labels",
        }
        state = {name: tensor.detach().cpu().clone() for name, tensor in self.predictor.model.state_dict().items()}
        return replace(self.bundle, state=state, metrics={}, weights_sha256="", adaptation=record)

    def probability(self, images: Tensor) -> Tensor:
        """Landslide probability, float32 ``(B, H, W)``, of images in units, in the bundle's format."""
        return self.predictor.landslide_probability(self._run(images))

    def _batches(self) -> Iterator[Tensor]:
        for batch in self.sample.batches(self.batch_size):
            yield batch.to(self.device)

    def _run(self, images: Tensor) -> Tensor:
        compute_format = self.bundle.compute_format
        with compute_format.autocast(self.device):
            logits: Tensor = self.predictor(images.contiguous(memory_format=compute_format.memory_format))
        return logits
