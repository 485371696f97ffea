"""Adaptation of a bundle to a region without labels."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Any, Literal, get_args

import numpy as np
import torch
from torch import Tensor

from zoo.datasets.statistics import Statistics
from zoo.errors import ConfigError, DataError, ModelError, ResultError
from zoo.jobs import ProgressCallback
from zoo.training.bundle import Bundle
from zoo.training.predictor import (
    AS_IT_IS,
    CANDIDATES,
    Predictor,
    check_scales,
    choose_scale,
    magnify,
    middle,
    middle_distance,
    statistics_at,
)
from zoo.training.running_statistics import (
    Moments,
    MomentSums,
    Shift,
    State,
    measure_shift,
    order_of_use,
    replace_statistics,
    store,
    stored,
    tracked_layers,
)


@dataclass(frozen=True)
class PatchSample:
    """Patches held in memory.

    Attributes:
        images: float32 ``(N, C, H, W)``, NaN where missing.
        seen: patches of the stream.
        blank: of those, patches without a single valid pixel; they are not in the sample.
    """

    images: Tensor
    seen: int
    blank: int

    def __len__(self) -> int:
        """Give the number of patches held."""
        return len(self.images)

    def batches(self, size: int) -> Iterator[Tensor]:
        """The patches in batches of ``size``, the last one perhaps smaller."""
        for first in range(0, len(self), size):
            yield self.images[first : first + size]

    @classmethod
    def draw(cls, batches: Iterable[Tensor], names: Sequence[str], *, pixels: int, seed: int) -> PatchSample:
        """Hold as many patches as make ``pixels``, each of the stream with the same chance (reservoir sampling).

        Args:
            batches: float32 ``(B, C, H, W)``, all patches of one size.
            names: of the bands, for errors.
            pixels: most pixels to hold; at least one patch is.
            seed: of the draw.

        Raises:
            DataError: if a batch has another shape or an infinity, or no patch has a valid pixel.
        """
        rng = np.random.default_rng(seed)
        held: list[tuple[int, Tensor]] = []
        room = seen = blank = 0
        for batch in batches:
            _check(batch, names, held[0][1] if held else None)
            room = room or max(1, pixels // (batch.shape[-2] * batch.shape[-1]))
            for patch in batch:
                seen += 1
                if bool(torch.isnan(patch).any(0).all()):
                    blank += 1
                    continue
                number = seen - blank - 1
                place = number if number < room else int(rng.integers(number + 1))
                if number < room:
                    held.append((number, _copy(patch)))
                elif place < room:
                    held[place] = (number, _copy(patch))
        if not held:
            problem = "no patch was given" if not seen else f"all {seen} patches are nodata in a band at every pixel"
            raise DataError(f"there is nothing to adapt to: {problem}", hint="Name a target that holds images")
        return cls(torch.stack([patch for _, patch in sorted(held, key=lambda one: one[0])]), seen, blank)


def _copy(patch: Tensor) -> Tensor:
    # A view would keep its whole batch in memory.
    return patch.detach().to("cpu", torch.float32, copy=True)


def _check(batch: Tensor, names: Sequence[str], first: Tensor | None) -> None:
    if batch.ndim != 4 or batch.shape[1] != len(names):
        raise DataError(
            f"expected batches of shape (B, {len(names)}, H, W), got {tuple(batch.shape)}",
            hint="The bundle takes " + ", ".join(names),
        )
    if first is not None and batch.shape[1:] != first.shape:
        raise DataError(f"patches of {tuple(batch.shape[1:])} follow patches of {tuple(first.shape)}")
    infinite = torch.isinf(batch)
    if bool(infinite.any()):
        band = int(infinite.any(0).flatten(1).any(1).nonzero()[0])
        raise DataError(
            "holds an infinity", where=f"band {names[band]!r} of the target", hint="Mark such pixels as nodata"
        )


Which = Literal["layers", "bands", "both"]
PIXELS = 2**21
"""Most pixels of the target that are held: 128 patches of 128 x 128 [O]."""


def adapt(
    bundle: Bundle,
    patches: Iterable[Tensor],
    *,
    share: float | None = None,
    which: Which = "layers",
    scales: Sequence[float] | Literal["auto"] = AS_IT_IS,
    device: torch.device | str = "cpu",
    batch_size: int = 16,
    pixels: int = PIXELS,
    seed: int = 0,
    target: dict[str, Any] | None = None,
    progress: ProgressCallback | None = None,
) -> Bundle:
    """Adapt a bundle to the region that ``patches`` come from.

    Args:
        bundle: a trained model.
        patches: batches, float32 ``(B, C, H, W)``, in the units of the bundle's bands, NaN where missing; iterated
            once. How patches are batched does not change the result. Patches without a valid pixel are left out.
        share: of the target in the statistics, in [0, 1]; ``None`` for as much as the shift exceeds chance, layer by
            layer (:func:`~zoo.training.running_statistics.measure_shift`): nothing where no shift can be told.
        which: ``layers`` with running statistics (batch norm), ``bands``, or both.
        scales: magnifications in [1, 4] at which the adapted bundle sees every image; its probability is their mean.
            The layers get statistics of their own at each. ``auto`` for the one of 1, 1.5 and 2 at which the middle
            layers find the region nearest to what they know (:func:`~zoo.training.predictor.choose_scale`).
        device: to compute on.
        batch_size: patches that are computed together.
        pixels: most pixels to hold; of more patches a sample is drawn, each with the same chance.
        seed: of that sample.
        target: what the caller knows of the region (name, fingerprint ...); JSON values, kept in the bundle.
        progress: told how far the work is.

    Returns:
        A bundle with other statistics, the same weights and threshold, no metrics (those of the source are no longer
        true), and in ``adaptation`` what was done and the numbers that decided.

    Raises:
        ModelError: if the layers are asked for and the model has none with running statistics.
        DataError: if there is no patch, none with a valid pixel, or one with another number of bands or an infinity.
        ConfigError: if an option is out of range.
        ResultError: if the bundle's statistics or predictions are not finite.
    """
    if share is not None and not 0 <= share <= 1:
        raise ConfigError(f"a share of {share:g} is not between 0 and 1", where="option share")
    if which not in get_args(Which):
        raise ConfigError(f"{which!r} are no statistics", where="option which", hint="layers, bands or both")
    tried = CANDIDATES if scales == "auto" else check_scales(scales)
    if scales == "auto" and which == "bands":
        raise ConfigError(
            "no scale can be chosen by the bands alone", where="option scales", hint="Name it, or adapt the layers"
        )
    worker = _Worker(bundle.at_scale_one(), torch.device(device), batch_size)
    model = worker.predictor.model
    if which != "bands" and not tracked_layers(model):
        raise ModelError(
            "has no normalisation layer with running statistics (batch norm), so there is nothing to re-estimate",
            where=f"model {bundle.model!r}",
            hint="Adapt the band statistics alone (--statistics bands)",
        )
    trained = stored(model)
    sample = PatchSample.draw(patches, [band.name for band in bundle.bands], pixels=pixels, seed=seed)
    uses = {} if which == "bands" else order_of_use(model, worker.logits, lambda: worker.batches(sample))
    # What decides on a magnification is known halfway through the network.
    half = middle(len(uses)).stop if scales == "auto" else len(uses)
    first, rest = dict(list(uses.items())[:half]), dict(list(uses.items())[half:])
    tell = _Count(progress, len(first) * len(tried) + len(rest) + 2)
    before = _Worker(bundle, worker.device, batch_size).describe(sample)
    tell()
    shifts: list[tuple[float, str, Shift]] = []
    statistics = bundle.statistics
    if which != "layers":
        shift, statistics = _adapt_bands(bundle, sample, share)
        shifts.append((1.0, "bands", shift))
        worker.normalise_with(statistics)
    at: dict[float, dict[str, Shift]] = {}
    found: dict[float, State] = {}

    def measure(scale: float, layers: dict[str, int]) -> None:
        if layers:
            run = partial(worker.logits, scale=scale)
            at[scale] |= replace_statistics(model, run, lambda: worker.batches(sample), share, tell, layers)
        found[scale] = stored(model)

    for scale in tried:
        store(model, trained)
        at[scale] = {}
        measure(scale, first)
    distances = {
        scale: middle_distance([one.distance for one in shifts.values()], len(uses))
        for scale, shifts in at.items()
        if uses
    }
    chosen = (choose_scale(distances),) if scales == "auto" else tried
    if scales == "auto":
        store(model, found[chosen[0]])
        measure(chosen[0], rest)
    state: dict[str, Tensor] = {}
    for scale in chosen:
        store(model, found[scale])
        state |= statistics_at(scale, model) if state else _copied(model)
        shifts += [(scale, name, shift) for name, shift in at.get(scale, {}).items()]
    adapted = replace(
        bundle, state=state, statistics=statistics, scales=chosen, metrics={}, weights_sha256="", adaptation={}
    )
    after = _Worker(adapted, worker.device, batch_size).describe(sample)
    tell()
    record = {
        "source": {"weights_sha256": bundle.weights_sha256, "adaptation": bundle.adaptation},
        "target": {**(target or {}), "patches": sample.seen, "blank": sample.blank, "used": len(sample)},
        "statistics": which,
        "scales": list(chosen),
        "scale_distances": {f"{scale:g}": math.sqrt(distance) for scale, distance in distances.items()},
        "criterion": "shift beyond chance (James-Stein)" if share is None else "share given by the user",
        "share": _overall(shift for _, _, shift in shifts),
        "shifts": [{"layer": name, "scale": scale, **_plain_numbers(shift)} for scale, name, shift in shifts],
        "predictions": {"plain": before, "adapted": after},
        "transductive": "figures on the target's own images are of images that were seen, without their labels",
    }
    return replace(adapted, adaptation=record)


class _Count:
    """Counts what is done, and tells."""

    def __init__(self, progress: ProgressCallback | None, total: int) -> None:
        self.progress, self.total, self.done = progress, total, 0

    def __call__(self, *_: object) -> None:
        self.done += 1
        if self.progress is not None:
            self.progress(self.done, self.total)


def _copied(model: torch.nn.Module) -> dict[str, Tensor]:
    return {name: tensor.detach().cpu().clone() for name, tensor in model.state_dict().items()}


class _Worker:
    """The bundle's predictor at work, in the bundle's format."""

    def __init__(self, bundle: Bundle, device: torch.device, batch_size: int) -> None:
        self.format = bundle.compute_format
        self.threshold = bundle.threshold
        self.device = device
        self.batch_size = batch_size
        self.predictor = bundle.predictor().to(device).to(memory_format=self.format.memory_format)

    def normalise_with(self, statistics: Statistics) -> None:
        other = Predictor(self.predictor.model, statistics.mean.tolist(), statistics.std.tolist())
        self.predictor = other.to(self.device).eval()

    def batches(self, sample: PatchSample) -> Iterator[Tensor]:
        for batch in sample.batches(self.batch_size):
            yield batch.to(self.device)

    def logits(self, images: Tensor, scale: float = 1.0) -> Tensor:
        """Logits of ``images``, of their magnified size."""
        with self.format.autocast(self.device):
            seen = magnify(self.predictor.normalise(images), scale)
            logits: Tensor = self.predictor.model(seen.contiguous(memory_format=self.format.memory_format))
        return logits

    @torch.inference_mode()
    def describe(self, sample: PatchSample) -> dict[str, float]:
        """What is predicted: the share of pixels called landslide, and the mean entropy of a pixel in nats."""
        called = entropy = pixels = 0.0
        for batch in self.batches(sample):
            valid = ~torch.isnan(batch).any(1)
            probability = self.predictor.landslide_probability(self.logits(batch))[valid].double()
            called += float((probability >= self.threshold).sum())
            inside = probability.clamp(1e-7, 1 - 1e-7)
            entropy += float(-(inside * inside.log() + (1 - inside) * (1 - inside).log()).sum())
            pixels += probability.numel()
        if not math.isfinite(entropy):
            raise ResultError("the model predicts NaN", hint="Train it again, or copy the bundle again")
        return {"called_landslide": called / pixels, "entropy": entropy / pixels}


def _adapt_bands(bundle: Bundle, sample: PatchSample, share: float | None) -> tuple[Shift, Statistics]:
    """Compare band by band in standard deviations of the source, so that units do not matter."""
    mean, scale = torch.from_numpy(bundle.statistics.mean), torch.from_numpy(bundle.statistics.scale)
    found = []
    for number, name in enumerate(band.name for band in bundle.bands):
        sums = MomentSums()
        for image in sample.images[:, number]:
            values = (image[~torch.isnan(image)].double() - mean[number]) / scale[number]
            if len(values):
                sums.add_image(float(len(values)), values.mean()[None], values.var(correction=0)[None])
        moments = sums.moments()
        if moments is None:
            raise DataError("has no valid pixel in the target", where=f"band {name!r}")
        found.append(moments)
    source = Moments(torch.zeros(len(found), dtype=torch.float64), torch.ones(len(found), dtype=torch.float64))
    errors = [(one.mean_error, one.var_error) for one in found]
    known = [(first, second) for first, second in errors if first is not None and second is not None]
    target = Moments(
        torch.cat([one.mean for one in found]),
        torch.cat([one.var for one in found]),
        torch.cat([first for first, _ in known]) if len(known) == len(found) else None,
        torch.cat([second for _, second in known]) if len(known) == len(found) else None,
    )
    shift = measure_shift(source, target)
    shift = shift if share is None else replace(shift, share=share)
    bands = tuple(
        replace(
            band,
            mean=float(mean[number] + scale[number] * shift.share * target.mean[number]),
            std=float(band.std * (1 + shift.share * (target.var[number] - 1)).clamp_min(0).sqrt()),
        )
        for number, band in enumerate(bundle.statistics.bands)
    )
    return shift, replace(bundle.statistics, bands=bands)


def _overall(shifts: Iterable[Shift]) -> float:
    """The share of the target where it matters: each layer's, weighted by its distance."""
    found = list(shifts)
    distance = sum(shift.distance for shift in found)
    return sum(shift.share * shift.distance for shift in found) / distance if distance else 0.0


def _plain_numbers(shift: Shift) -> dict[str, float | None]:
    """Standard deviations instead of their squares; JSON has no infinity."""
    chance = math.sqrt(shift.error) if math.isfinite(shift.error) else None
    return {"distance": math.sqrt(shift.distance), "chance": chance, "share": shift.share}
