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
from zoo.training.label_free import score
from zoo.training.patch_sample import PatchSample
from zoo.training.running_statistics import blended, distances, settle, store, stored, tracked_layers

SHARES = (0.0, 0.5, 1.0)
"""Shares of the target in the statistics among which ``auto`` chooses; 0 is the bundle as it was."""
PIXELS = 2**23
"""Most pixels of the target that are held: 512 patches of 128 x 128 [O]."""

Progress = Callable[[str, int, int], None]
"""Called with what is being done, how much of it is done, and how much it is at most."""


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
        progress: told what is being done.

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
    tell = progress or (lambda _what, _done, _total: None)
    worker = _Worker(bundle, torch.device(device), batch_size)
    layers = len(tracked_layers(worker.predictor.model))
    if not layers:
        raise ModelError(
            "has no normalisation layer with running statistics (batch norm), so there is nothing to re-estimate",
            where=f"model {bundle.model!r}",
            hint="Map with the bundle as it is",
        )
    source = stored(worker.predictor.model)
    sample = PatchSample.draw(patches, [band.name for band in bundle.bands], pixels=pixels, seed=seed)
    passes = settle(
        worker.predictor.model,
        worker.run,
        lambda: worker.batches(sample),
        on_pass=lambda done: tell("statistics", done, layers + 1),
    )
    full = stored(worker.predictor.model)
    tried = SHARES if share is None else (share,)
    scores = {}
    for number, candidate in enumerate(tried):
        store(worker.predictor.model, blended(source, full, candidate))
        scores[candidate] = score(worker.probability, worker.batches(sample), bundle.threshold)
        tell("candidates", number + 1, len(tried))
    chosen = max(scores, key=lambda candidate: scores[candidate].expected_dice) if share is None else share
    store(worker.predictor.model, blended(source, full, chosen))
    report = {
        "source": {"weights_sha256": bundle.weights_sha256, "adaptation": bundle.adaptation},
        "target": {**(target or {}), "patches": sample.seen, "blank": sample.blank, "used": len(sample)},
        "share": chosen,
        "chosen_by": "expected_dice" if share is None else "the user",
        "candidates": [{"share": candidate, **found.to_dict()} for candidate, found in scores.items()],
        "passes": passes,
        "distance": _rms(distances(source, full).values()),
    }
    state = {name: tensor.detach().cpu() for name, tensor in worker.predictor.model.state_dict().items()}
    return replace(bundle, state=state, metrics={}, weights_sha256="", adaptation=report)


class _Worker:
    """The bundle's predictor at work, in the bundle's format."""

    def __init__(self, bundle: Bundle, device: torch.device, batch_size: int) -> None:
        self.format = bundle.compute_format
        self.device = device
        self.batch_size = batch_size
        self.predictor = bundle.predictor().to(device, memory_format=self.format.memory_format)

    def batches(self, sample: PatchSample) -> Iterator[Tensor]:
        for batch in sample.batches(self.batch_size):
            yield batch.to(self.device)

    def run(self, images: Tensor) -> Tensor:
        with self.format.autocast(self.device):
            logits: Tensor = self.predictor(images.contiguous(memory_format=self.format.memory_format))
        return logits

    def probability(self, images: Tensor) -> Tensor:
        return self.predictor.landslide_probability(self.run(images))


def _rms(values: Iterable[float]) -> float:
    squares = [value * value for value in values]
    return math.sqrt(sum(squares) / len(squares))
