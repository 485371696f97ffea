"""Fine-tuning: training that starts from the weights of a bundle.

Weights whose shape depends on neither the bands nor the classes are copied. Weights with one slice per band,
such as those of the first convolution, are filled band by band (:class:`BandStart`). Weights with one slice per class
are copied if the classes are the same, and random otherwise.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor, nn

from zoo.datasets.base import PatchDataset
from zoo.datasets.source import DataSource
from zoo.datasets.statistics import Statistics
from zoo.errors import ConfigError, UnknownNameError, ZooError
from zoo.physics.bands import Band, canonical_name, records_light
from zoo.registry import catalogue, check_options, create_model_for
from zoo.training.bundle import Bundle, Parent, TrainingData, same_pixel_size, without_downloads
from zoo.training.predictor import first_scale_state
from zoo.training.recipes import FineTuning

MAX_BAND_SHIFT = 2.0
"""Shift of a band's mean, in standard deviations of the parent's data, at which a warning is given [O]."""
MAX_STD_RATIO = 3.0
"""Ratio of two standard deviations of a band above which a warning is given: the units probably differ [O]."""


@dataclass(frozen=True)
class BandStart:
    """Initial weights of one band.

    Attributes:
        band: name of the band of the data.
        sources: bands of the parent: one whose weights are copied, several that are averaged, or none for random
            weights.
    """

    band: str
    sources: tuple[str, ...]

    @property
    def copied(self) -> bool:
        """Whether the weights are those of the same band of the parent."""
        return [canonical_name(source) for source in self.sources] == [canonical_name(self.band)]

    def __str__(self) -> str:
        """Return a description of the initial weights."""
        if not self.sources:
            return f"{self.band} starts from random weights"
        if self.copied:
            return f"{self.band} copied" + ("" if self.sources[0] == self.band else f" from {self.sources[0]}")
        return f"{self.band} starts from the mean of {', '.join(self.sources)}"


@dataclass(frozen=True)
class Transfer:
    """Weights that a model copies from a bundle, and weights that training changes.

    Attributes:
        settings: the parent, the frozen layers and the learning rate of copied weights.
        bands: initial weights of each band of the data.
        places: indices of :attr:`BandStart.sources` in the parent, by band of the data.
        band_axes: weights that are filled band by band, with their band axis.
        fresh: weights that are not fully copied, because a band is new or the classes differ. They train at the
            full rate and are never frozen.
        frozen: weights that training does not change.
        kept_classes: whether the weights of the classes are copied.
        notes: what is copied, averaged, random and frozen, as sentences.
        warnings: reasons why the weights may not suit the data, as sentences.
    """

    settings: FineTuning
    bands: tuple[BandStart, ...]
    places: tuple[tuple[int, ...], ...]
    band_axes: Mapping[str, int]
    fresh: frozenset[str]
    frozen: frozenset[str]
    kept_classes: bool
    notes: tuple[str, ...]
    warnings: tuple[str, ...]

    def load(self, model: nn.Module, bundle: Bundle) -> None:
        """Copy the weights of ``bundle`` into ``model``, which has random weights."""
        state = first_scale_state(bundle.scales, bundle.state)
        with torch.no_grad():
            for name, tensor in model.state_dict().items():
                if name in self.band_axes:
                    self._fill_bands(tensor, state[name], self.band_axes[name])
                elif name not in self.fresh:
                    tensor.copy_(state[name])

    def _fill_bands(self, tensor: Tensor, old: Tensor, axis: int) -> None:
        for band, places in enumerate(self.places):
            if places:
                tensor.select(axis, band).copy_(old.float().index_select(axis, torch.tensor(places)).mean(axis))

    def parent(self) -> Parent:
        """Return the record of the parent for the bundle of the new model."""
        settings = self.settings
        bands = {start.band: list(start.sources) for start in self.bands}
        return Parent(
            settings.parent, settings.sha256, bands, self.kept_classes, settings.freeze, settings.old_lr_factor
        )

    def frozen_layers(self, model: nn.Module) -> list[nn.Module]:
        """Return the layers whose weights are all frozen; their BatchNorm keeps its statistics in training."""
        found = []
        for prefix, module in model.named_modules():
            names = [f"{prefix}.{name}" if prefix else name for name, _ in module.named_parameters()]
            if names and self.frozen.issuperset(names):
                found.append(module)
        return found


def parent_options(bundle: Bundle, model: str, options: Mapping[str, Any], where: str) -> dict[str, Any]:
    """Return the options of a model that starts from a bundle: the bundle's options, updated with the given ones.

    Args:
        bundle: the parent.
        model: name of the requested model.
        options: options given for it.
        where: name of the parent, for messages.

    Raises:
        ConfigError: if the bundle holds another architecture.
    """
    if bundle.model != model:
        raise ConfigError(
            f"the weights are those of {bundle.model!r}, but {model!r} needs others",
            where=where,
            hint=f"Train {bundle.model} instead, or train {model} without --from",
        )
    merged = {**without_downloads(model, bundle.options), **options}
    return check_options(catalogue().models.get(model), merged)


def plan_transfer(
    bundle: Bundle,
    options: Mapping[str, Any],
    bands: Sequence[Band],
    class_names: Sequence[str],
    settings: FineTuning,
) -> Transfer:
    """Plan which weights a model with these options, bands and classes copies from ``bundle``, without copying them.

    Args:
        bundle: the parent.
        options: options of the new model; see :func:`parent_options`.
        bands: bands of the new data.
        class_names: classes of the new data.
        settings: the parent's name, the layers to freeze and the learning rate of copied weights.

    Raises:
        ConfigError: if the architectures differ, ``settings.freeze`` matches no layer, or nothing is left to train. The
            message names the weight and the options that differ.
    """
    state = first_scale_state(bundle.scales, bundle.state)
    blank = _meta_model(bundle.model, bands, len(class_names), options)
    shapes = {name: tuple(tensor.shape) for name, tensor in blank.state_dict().items()}
    by_band = _resized_weights(shapes, bundle.model, [*bands, Band("another band", "1")], len(class_names), options)
    by_class = _resized_weights(shapes, bundle.model, bands, len(class_names) + 1, options)
    kept_classes = tuple(class_names) == bundle.class_names
    starts, places = _band_starts(bundle.bands, bands)
    complete = all(start.copied for start in starts)
    same_bands = complete and places == tuple((place,) for place in range(len(bundle.bands)))
    band_axes: dict[str, int] = {}
    fresh: set[str] = set()
    for name, shape in shapes.items():
        old = tuple(state[name].shape) if name in state else None
        if name in by_class and not kept_classes:
            fresh.add(name)
        elif old == shape and (name not in by_band or same_bands):
            continue
        elif name in by_band and old is not None:
            axis = by_band[name]
            expected = (*shape[:axis], len(bundle.bands), *shape[axis + 1 :])
            if shape[axis] == len(bands) and old == expected:
                band_axes[name] = axis
            if name not in band_axes or not complete:
                fresh.add(name)
        else:
            raise _mismatch(bundle, options, name, shape, old, settings.parent)
    for name in state:
        if name not in shapes:
            raise _mismatch(bundle, options, name, None, tuple(state[name].shape), settings.parent)
    sizes = {name: parameter.numel() for name, parameter in blank.named_parameters()}
    frozen = _frozen(sizes, settings.freeze) - fresh
    if frozen.issuperset(sizes):
        raise ConfigError("nothing is left to train", where="freeze", hint="Freeze fewer layers, such as encoder")
    return Transfer(
        settings=settings,
        bands=starts,
        places=places,
        band_axes=band_axes,
        fresh=frozenset(fresh),
        frozen=frozenset(frozen),
        kept_classes=kept_classes,
        notes=(*_describe_copied(bundle, class_names, starts), *_describe_training(settings, sizes, fresh, frozen)),
        warnings=_warnings(bundle, bands, starts),
    )


def with_comparison(
    transfer: Transfer,
    bundle: Bundle,
    train: PatchDataset,
    statistics: Statistics,
    data: DataSource,
    test: PatchDataset,
) -> Transfer:
    """Return a transfer whose notes and warnings also compare the data with those of the parent.

    Args:
        transfer: the weights to copy.
        bundle: the parent.
        train: the new training split.
        statistics: statistics of the training split, which normalise the input of the new model.
        data: the new data set.
        test: the new test split.
    """
    notes, warnings = _compare_statistics(bundle, train.bands, statistics)
    if not same_pixel_size(train.pixel_size, bundle.pixel_size):
        found, known = train.pixel_size, bundle.pixel_size
        warnings.append(f"the pixels are {found:g} m, but the weights were trained on pixels of {known:g} m")
    overlap = _overlap_warning(bundle.data, data, test)
    if overlap is not None:
        warnings.append(overlap)
    return replace(transfer, notes=(*transfer.notes, *notes), warnings=(*transfer.warnings, *warnings))


def _compare_statistics(parent: Bundle, bands: Sequence[Band], new: Statistics) -> tuple[list[str], list[str]]:
    """Return how the values of each band differ from those the parent was trained on, and warnings."""
    descriptions, warnings = [], []
    old = {canonical_name(band.name): one for band, one in zip(parent.bands, parent.statistics.bands, strict=True)}
    for band, found in zip(bands, new.bands, strict=True):
        known = old.get(canonical_name(band.name))
        if known is None or known.std == 0:
            continue
        text = (
            f"{band.name}: mean {found.mean:.4g}, standard deviation {found.std:.4g} "
            f"(weights: {known.mean:.4g}, {known.std:.4g})"
        )
        descriptions.append(text)
        shift, ratio = abs(found.mean - known.mean) / known.std, found.std / known.std
        if shift > MAX_BAND_SHIFT or not 1 / MAX_STD_RATIO <= ratio <= MAX_STD_RATIO:
            warnings.append(f"{text} differ strongly. Check that both have the same unit")
    return ([f"normalisation by the new training split; {'; '.join(descriptions)}"] if descriptions else []), warnings


def _overlap_warning(parent: TrainingData, data: DataSource, test: PatchDataset) -> str | None:
    """Return a warning if the parent was trained on patches of the new test split, as far as its data are available."""
    source = parent.source
    if source is None or (source.name, source.options.get("root")) != (data.name, data.options.get("root")):
        return None
    try:
        names = {patch.name for split in ("train", "val") for patch in source.open(split).patches}
    except ZooError:
        return None
    shared = sum(patch.name in names for patch in test.patches)
    if not shared:
        return None
    return (
        f"the weights were trained on {shared} of the {len(test)} test patches: the test figures will be too optimistic"
    )


def _band_starts(old: Sequence[Band], new: Sequence[Band]) -> tuple[tuple[BandStart, ...], tuple[tuple[int, ...], ...]]:
    names = [canonical_name(band.name) for band in old]
    bright = tuple(place for place, band in enumerate(old) if records_light(band))
    starts, places = [], []
    for band in new:
        name = canonical_name(band.name)
        if name in names:
            chosen: tuple[int, ...] = (names.index(name),)
        else:
            chosen = bright if records_light(band) else ()
        starts.append(BandStart(band.name, tuple(old[place].name for place in chosen)))
        places.append(chosen)
    return tuple(starts), tuple(places)


def _meta_model(model: str, bands: Sequence[Band], classes: int, options: Mapping[str, Any]) -> nn.Module:
    """Return a model for its weight shapes, on the meta device if the architecture supports it."""
    try:
        with torch.device("meta"):
            return create_model_for(model, bands, classes, **options)
    except ZooError:
        raise
    except Exception:
        # Some architectures compute with their own weights on creation; on the meta device these have no values.
        return create_model_for(model, bands, classes, **options)


def _resized_weights(
    shapes: Mapping[str, tuple[int, ...]], model: str, bands: Sequence[Band], classes: int, options: Mapping[str, Any]
) -> dict[str, int]:
    """Return the weights whose shape differs with other bands or classes, and the first axis that differs."""
    try:
        others = _meta_model(model, bands, classes, options).state_dict()
    except ZooError:
        # The model supports only one number, so no weight depends on it.
        return {}
    found = {}
    for name, shape in shapes.items():
        other = tuple(others[name].shape) if name in others else shape
        if other != shape:
            found[name] = next(axis for axis, (one, two) in enumerate(zip(shape, other, strict=False)) if one != two)
    return found


def _frozen(parameters: Iterable[str], prefixes: Sequence[str]) -> set[str]:
    """Return the weights under each prefix; if no weight starts with it, those of any layer with that name."""
    frozen: set[str] = set()
    for prefix in prefixes:
        found = {name for name in parameters if f"{name}.".startswith(f"{prefix}.")}
        found = found or {name for name in parameters if f".{prefix}." in f".{name}."}
        if not found:
            raise UnknownNameError("layer", prefix, {name.partition(".")[0] for name in parameters}, where="freeze")
        frozen |= found
    return frozen


def _mismatch(
    bundle: Bundle,
    options: Mapping[str, Any],
    name: str,
    wanted: tuple[int, ...] | None,
    found: tuple[int, ...] | None,
    where: str,
) -> ConfigError:
    if found is None:
        problem = f"{name} is missing in the weights"
    elif wanted is None:
        problem = f"the weights have {name}, but the model does not"
    else:
        problem = f"{name} has the shape {found} in the weights, but {wanted} in the model"
    differing = sorted(option for option in options if options[option] != bundle.options.get(option))
    hint = "Leave out the options of the model: those of the weights are used"
    if differing:
        described = ", ".join(f"{option} (weights: {bundle.options.get(option, 'default')})" for option in differing)
        hint = f"The options that differ are {described}. Leave them out"
    return ConfigError(f"the architectures differ: {problem}", where=where, hint=hint)


def _describe_copied(bundle: Bundle, class_names: Sequence[str], starts: Sequence[BandStart]) -> tuple[str, str]:
    used = {source for start in starts for source in start.sources}
    unused = [band.name for band in bundle.bands if band.name not in used]
    first = "first convolution: " + "; ".join(map(str, starts))
    if unused:
        first += f"; {', '.join(unused)} of the weights not used"
    names, parent_names = ", ".join(class_names), ", ".join(bundle.class_names)
    if names == parent_names:
        return first, f"classes: weights of {names} copied"
    return first, f"classes: random weights, because the data have {names} but the weights {parent_names}"


def _describe_training(
    settings: FineTuning, sizes: Mapping[str, int], fresh: set[str], frozen: set[str]
) -> tuple[str, ...]:
    notes = []
    if settings.freeze:
        count, total = sum(sizes[name] for name in frozen), sum(sizes.values())
        notes.append(f"frozen: {', '.join(settings.freeze)} ({count:,} of {total:,} weights)")
        trained = sorted(_frozen(sizes, settings.freeze) & fresh)
        if trained:
            notes.append(f"not frozen, because they are new: {', '.join(trained[:3])}" + " ..." * (len(trained) > 3))
    new = sum(size for name, size in sizes.items() if name in fresh)
    rate = f"learning rate: copied weights at {settings.old_lr_factor:g} of the recipe's"
    notes.append(rate + (f", {new:,} new weights at the recipe's" if new else ""))
    return tuple(notes)


def _warnings(bundle: Bundle, bands: Sequence[Band], starts: Sequence[BandStart]) -> tuple[str, ...]:
    warnings = []
    known = {canonical_name(band.name): band for band in bundle.bands}
    if not any(canonical_name(band.name) in known for band in bands):
        warnings.append(
            f"no band of the data matches a band of the weights ({', '.join(band.name for band in bundle.bands)})"
        )
    for band in bands:
        old = known.get(canonical_name(band.name))
        if old is not None and old.unit != band.unit and "unknown" not in (old.unit, band.unit):
            warnings.append(f"band {band.name} is in {band.unit}, but the weights were trained on {old.unit}")
    return tuple(warnings)
