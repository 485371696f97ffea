"""Adaptation of a bundle to a region without labels.

The normalisation statistics are re-estimated on unlabelled patches of the region: the mean and standard deviation of
each channel in each batch-norm layer, or of each band. Optionally, every image is magnified before prediction.
No weights are trained and no labels are read.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from itertools import combinations
from typing import Literal, get_args

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from zoo.datasets.statistics import Statistics
from zoo.errors import ConfigError, DataError, ModelError, ResultError
from zoo.jobs import ProgressCallback
from zoo.physics.display import bright_regions, display_colours
from zoo.training.bundle import Bundle
from zoo.training.bundle_layout import (
    ORIGINAL_SCALE,
    Adaptation,
    AdaptationSource,
    AdaptationTarget,
    AdaptedPredictions,
    AdaptedStatistics,
    LayerShift,
    PredictionSummary,
)
from zoo.training.compute import autocast, memory_format
from zoo.training.predictor import (
    SCALE_CANDIDATES,
    PlausibleRange,
    Predictor,
    check_scales,
    choose_scale,
    in_views,
    magnify,
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
    stored_statistics,
    tracked_layers,
)

Scales = Sequence[float] | Literal["auto"]

MAX_PIXELS = 2**21
"""Maximum number of target pixels held in memory: 128 patches of 128 x 128 [O]."""
ADAPTED_THRESHOLD = 0.5
"""Threshold of a fully adapted model. The validated threshold belongs to the training regions; on three of four
held-out regions, 0.5 gave a higher Dice or one at most 0.002 lower (docs/how_to/adapt.md) [O]."""
CHOOSING_PIXELS = 2**19
"""Maximum number of pixels on which magnifications are compared: 32 patches of 128 x 128 [O]."""


def adapt(
    bundle: Bundle,
    patches: Iterable[Tensor],
    *,
    share: float | None = None,
    which: AdaptedStatistics = "layers",
    scales: Scales = ORIGINAL_SCALE,
    device: torch.device | str = "cpu",
    batch_size: int = 16,
    pixels: int = MAX_PIXELS,
    seed: int = 0,
    target: AdaptationTarget | None = None,
    progress: ProgressCallback | None = None,
) -> Bundle:
    """Adapt a bundle to the region that ``patches`` come from.

    Args:
        bundle: a trained model.
        patches: batches, float32 ``(B, C, H, W)``, in the units of the bundle's bands, NaN where missing; iterated
            once. The batch size does not change the result. Patches without a valid pixel are left out.
        share: weight of the target in the statistics, in [0, 1]. ``None`` chooses one per layer, depending on how far
            its shift exceeds chance (:func:`~zoo.training.running_statistics.measure_shift`).
        which: ``layers`` with running statistics (batch norm), ``bands``, or ``both``.
        scales: magnifications in [0.5, 4] that the adapted bundle applies to every image; it averages their
            probabilities. The layers have separate statistics at each magnification. ``auto`` chooses 0.75, 1, 1.5 or
            2, whichever changes the masks least when the image is rotated
            (:func:`~zoo.training.predictor.choose_scale`).
        device: device of the computation.
        batch_size: number of patches per batch.
        pixels: maximum number of pixels to hold; a random sample is drawn if there are more.
        seed: seed of that sample.
        target: description of the region by the caller; it is recorded in the bundle.
        progress: called with the number of steps done and the total.

    Returns:
        A bundle with the same weights, new statistics, no metrics (those of the source no longer apply), a threshold
        that moved from the source's towards 0.5 by the overall share of the target in the statistics, and a record of
        the adaptation in ``adaptation``.

    Raises:
        ModelError: if layers are to be adapted and the model has none with running statistics.
        DataError: if there are no patches, none has a valid pixel, or one has other bands or contains an infinity.
        ConfigError: if an option is out of range.
        ResultError: if the bundle's statistics or predictions are not finite.
    """
    if share is not None and not 0 <= share <= 1:
        raise ConfigError(f"a share of {share:g} is not between 0 and 1", where="option share")
    if which not in get_args(AdaptedStatistics):
        raise ConfigError(f"unknown statistics {which!r}", where="option which", hint="Use layers, bands or both")
    tried = SCALE_CANDIDATES if scales == "auto" else check_scales(scales)
    if scales == "auto" and which == "bands":
        raise ConfigError(
            "a scale cannot be chosen from the bands alone",
            where="option scales",
            hint="Name the scale, or adapt the layers",
        )
    worker = _Worker(bundle.at_original_scale(), torch.device(device), batch_size)
    if which != "bands" and not tracked_layers(worker.model):
        raise ModelError(
            "has no normalisation layer with running statistics (batch norm), so there is nothing to re-estimate",
            where=f"model {bundle.model!r}",
            hint="Adapt only the band statistics (--statistics bands)",
        )
    trained = stored_statistics(worker.model)
    patches = _valid_batches(patches, bundle, worker.predictor)
    sample = PatchSample.draw(patches, [band.name for band in bundle.bands], pixels=pixels, seed=seed)
    uses = {} if which == "bands" else order_of_use(worker.model, worker.logits, lambda: worker.batches(sample))
    counter = _Counter(progress, _count_steps(len(uses), len(tried), choose=scales == "auto"))
    before = _Worker(bundle, worker.device, batch_size).summarise(sample)
    counter()
    shifts: list[tuple[float, str, Shift]] = []
    statistics = bundle.statistics
    if which != "layers":
        shift, statistics = _adapt_bands(bundle, sample, share)
        shifts.append((1.0, "bands", shift))
        worker.normalise_with(statistics)
    layers = _adapt_layers(worker, sample, trained, uses, tried, share, counter, choose=scales == "auto")
    shifts += [(scale, name, shift) for scale in layers.scales for name, shift in layers.shifts[scale].items()]
    overall = _overall_share(one for _, _, one in shifts)
    adapted = replace(
        bundle,
        state=layers.state,
        statistics=statistics,
        threshold=bundle.threshold + overall * (ADAPTED_THRESHOLD - bundle.threshold),
        scales=layers.scales,
        metrics={},
        weights_sha256="",
        adaptation=None,
    )
    after = _Worker(adapted, worker.device, batch_size).summarise(sample)
    counter.finish()
    target = AdaptationTarget() if target is None else target
    record = Adaptation(
        source=AdaptationSource(bundle.weights_sha256, bundle.adaptation),
        target=replace(target, patches=sample.seen, blank=sample.blank, used=len(sample)),
        statistics=which,
        scales=layers.scales,
        scale_agreements={f"{scale:g}": value for scale, value in layers.agreements.items()},
        criterion="shift beyond chance (James-Stein)" if share is None else "share given by the user",
        share=overall,
        shifts=tuple(_layer_shift(name, scale, shift) for scale, name, shift in shifts),
        predictions=AdaptedPredictions(before, after),
        transductive="figures on the target's own images are transductive: the model has seen these images, without "
        "their labels",
    )
    return replace(adapted, adaptation=record)


def _count_steps(layers: int, scales: int, *, choose: bool) -> int:
    return (layers + 1) * scales + layers + 2 if choose else layers * scales + 2


def _valid_batches(patches: Iterable[Tensor], bundle: Bundle, predictor: Predictor) -> Iterator[Tensor]:
    """Yield the batches without clouds; refuse implausible values, because a single one would dominate the statistics.

    Clouds are large bright white areas in the colour bands. ``zoo map --adapt`` also excludes them from a scene.
    """
    colours = display_colours(bundle.input_bands)
    reach = PlausibleRange.of(predictor)
    low, high = (torch.from_numpy(one)[:, None, None] for one in (reach.low, reach.high))
    for batch in patches:
        fits = batch.ndim == 4 and batch.shape[1] == len(bundle.bands)
        if fits and bool((implausible := ((batch < low) | (batch > high)) & torch.isfinite(batch)).any()):
            band = int(implausible.any(0).flatten(1).any(1).nonzero()[0])
            value = float(batch[:, band][implausible[:, band]][0])
            raise DataError(
                f"contains {value:g}, which is more than 10,000 standard deviations from its training mean",
                where=f"band {bundle.bands[band].name!r} of the target",
                hint="Mark such pixels as nodata, or check the unit of the band",
            )
        if fits and colours is not None:
            clouds = np.stack([bright_regions(image)[0] for image in batch[:, colours].numpy()])
            batch = batch.masked_fill(torch.from_numpy(clouds)[:, None], math.nan)
        yield batch


class _Counter:
    """Counts steps and reports them."""

    def __init__(self, progress: ProgressCallback | None, total: int) -> None:
        self.progress, self.total, self.done = progress, total, 0

    def __call__(self, *_: object) -> None:
        self.done = min(self.done + 1, self.total)
        if self.progress is not None:
            self.progress(self.done, self.total)

    def finish(self) -> None:
        """Report the final step."""
        self.done = self.total
        self()


class _Worker:
    """The predictor of a bundle, run in the bundle's compute format."""

    def __init__(self, bundle: Bundle, device: torch.device, batch_size: int) -> None:
        self.format = bundle.compute_format
        self.threshold = bundle.threshold
        self.device = device
        self.batch_size = batch_size
        self.predictor = bundle.predictor().to(device).to(memory_format=memory_format(self.format))

    @property
    def model(self) -> torch.nn.Module:
        return self.predictor.model

    def normalise_with(self, statistics: Statistics) -> None:
        other = Predictor(self.model, statistics.mean.tolist(), statistics.std.tolist())
        self.predictor = other.to(self.device).eval()

    def batches(self, sample: PatchSample) -> Iterator[Tensor]:
        for batch in sample.batches(self.batch_size):
            yield batch.to(self.device)

    def logits(self, images: Tensor, scale: float = 1.0) -> Tensor:
        """Return the logits of ``images`` at their magnified size."""
        with autocast(self.format, self.device):
            seen = magnify(self.predictor.normalise(images), scale)
            logits: Tensor = self.model(seen.contiguous(memory_format=memory_format(self.format)))
        return logits

    @torch.inference_mode()
    def agreement(self, sample: PatchSample, scale: float) -> float:
        """Return the Dice between the masks of the images and of copies rotated by 90 and 180 degrees; 0 if empty.

        A model that recognises landslides by their appearance finds them in every orientation; one that guesses does
        not.
        not.
        """
        shared = called = 0.0
        for batch in self.batches(sample):
            valid = ~torch.isnan(batch).any(1)
            masks = [mask & valid for mask in in_views(partial(self._mask, scale=scale), batch, _COMPARED_VIEWS)]
            for one, other in combinations(masks, 2):
                shared += 2 * float((one & other).sum())
                called += float(one.sum() + other.sum())
        return shared / called if called else 0.0

    def _mask(self, images: Tensor, scale: float) -> Tensor:
        probability = self.predictor.landslide_probability(self.logits(images, scale).float())[:, None]
        if scale != 1:
            probability = F.interpolate(probability, size=images.shape[2:], mode="bilinear", align_corners=False)
        return probability[:, 0] >= self.threshold

    @torch.inference_mode()
    def summarise(self, sample: PatchSample) -> PredictionSummary:
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
        return PredictionSummary(called_landslide=called / pixels, entropy=entropy / pixels)


_COMPARED_VIEWS = ((0, False), (1, False), (2, False))
"""Views whose masks are compared; more views give the same ranking of magnifications but take longer [O]."""


@dataclass(frozen=True)
class _AdaptedLayers:
    """State, scales and shifts after the layers were adapted; agreement by scale if a scale was chosen."""

    state: dict[str, Tensor]
    scales: tuple[float, ...]
    shifts: Mapping[float, Mapping[str, Shift]]
    agreements: Mapping[float, float]


def _adapt_layers(
    worker: _Worker,
    sample: PatchSample,
    trained: State,
    uses: Mapping[str, int],
    tried: Sequence[float],
    share: float | None,
    counter: _Counter,
    *,
    choose: bool,
) -> _AdaptedLayers:
    """Adapt the layers at each scale; optionally keep only the scale whose predictions depend least on the view."""
    model = worker.model
    shifts: dict[float, dict[str, Shift]] = {}

    def adapt_at(scale: float, patches: PatchSample) -> dict[str, Shift]:
        store(model, trained)
        run = partial(worker.logits, scale=scale)
        return replace_statistics(model, run, partial(worker.batches, patches), share, counter, uses) if uses else {}

    agreements: dict[float, float] = {}
    if choose:
        few = sample.thinned(CHOOSING_PIXELS)
        for scale in tried:
            adapt_at(scale, few)
            agreements[scale] = worker.agreement(few, scale)
            counter()
    scales = (choose_scale(agreements),) if choose else tuple(tried)
    state: dict[str, Tensor] = {}
    for scale in scales:
        shifts[scale] = adapt_at(scale, sample)
        if state:
            state |= statistics_at(scale, model)
        else:
            state = {name: tensor.detach().cpu().clone() for name, tensor in model.state_dict().items()}
    return _AdaptedLayers(state, scales, shifts, agreements)


def _adapt_bands(bundle: Bundle, sample: PatchSample, share: float | None) -> tuple[Shift, Statistics]:
    """Compare the bands in standard deviations of the source, so that the units do not matter."""
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


def _overall_share(shifts: Iterable[Shift]) -> float:
    """Return the mean share of the layers, weighted by their distance."""
    found = list(shifts)
    distance = sum(shift.distance for shift in found)
    return sum(shift.share * shift.distance for shift in found) / distance if distance else 0.0


def _layer_shift(layer: str, scale: float, shift: Shift) -> LayerShift:
    chance = math.sqrt(shift.error) if math.isfinite(shift.error) else None
    return LayerShift(layer, scale, math.sqrt(shift.distance), chance, shift.share)


@dataclass(frozen=True)
class PatchSample:
    """A random sample of patches, held in memory.

    Attributes:
        images: float32 ``(N, C, H, W)``, NaN where missing.
        seen: number of patches in the stream.
        blank: number of patches without a valid pixel; the sample excludes them.
    """

    images: Tensor
    seen: int
    blank: int

    def __len__(self) -> int:
        """Return the number of patches in the sample."""
        return len(self.images)

    def batches(self, size: int) -> Iterator[Tensor]:
        """Yield the patches in batches of ``size``; the last batch may be smaller."""
        for first in range(0, len(self), size):
            yield self.images[first : first + size]

    def thinned(self, pixels: int) -> PatchSample:
        """Return patches with at most ``pixels`` pixels, at least one patch, evenly spaced over the sample."""
        count = min(len(self), max(1, pixels // (self.images.shape[-2] * self.images.shape[-1])))
        places = torch.linspace(0, len(self) - 1, count).round().long()
        return PatchSample(self.images[places], self.seen, self.blank)

    @classmethod
    def draw(cls, batches: Iterable[Tensor], names: Sequence[str], *, pixels: int, seed: int) -> PatchSample:
        """Draw patches with at most ``pixels`` pixels, each with the same probability (reservoir sampling).

        Args:
            batches: float32 ``(B, C, H, W)``, all patches of the same size. The batch size does not change the sample.
            names: names of the bands, for errors.
            pixels: maximum number of pixels in the sample, which holds at least one patch.
            seed: random seed.

        Raises:
            DataError: if a batch has another shape or contains an infinity, or if no patch has a valid pixel.
        """
        rng = np.random.default_rng(seed)
        held: list[tuple[int, Tensor]] = []
        room = seen = blank = 0
        for batch in batches:
            _check_batch(batch, names, held[0][1] if held else None)
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
            problem = "there is no patch" if not seen else f"all {seen} patches are nodata in a band at every pixel"
            raise DataError(f"there is nothing to adapt to: {problem}", hint="Name a target that contains images")
        return cls(torch.stack([patch for _, patch in sorted(held, key=lambda one: one[0])]), seen, blank)


def _copy(patch: Tensor) -> Tensor:
    # A view would keep the whole batch in memory.
    return patch.detach().to("cpu", torch.float32, copy=True)


def _check_batch(batch: Tensor, names: Sequence[str], first: Tensor | None) -> None:
    if batch.ndim != 4 or batch.shape[1] != len(names):
        raise DataError(
            f"expected batches of shape (B, {len(names)}, H, W), got {tuple(batch.shape)}",
            hint="The bundle takes " + ", ".join(names),
        )
    if first is not None and batch.shape[1:] != first.shape:
        raise DataError(f"patches of shape {tuple(batch.shape[1:])} follow patches of shape {tuple(first.shape)}")
    infinite = torch.isinf(batch)
    if bool(infinite.any()):
        band = int(infinite.any(0).flatten(1).any(1).nonzero()[0])
        raise DataError(
            "contains an infinity", where=f"band {names[band]!r} of the target", hint="Mark such pixels as nodata"
        )
