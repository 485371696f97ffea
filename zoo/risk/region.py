"""What a map is made with: a stored index or Table 1, or a risk model, made ready for one stack."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

import zoo
from zoo.errors import DataError, ZooError
from zoo.physics import PAPER_WEIGHTS, IndexParameters
from zoo.rasters.ground import crs_name
from zoo.rasters.inventory import read_inventory
from zoo.rasters.pixel_sample import extent_of, sample_pixels
from zoo.rasters.stacking import TAG_INDEX
from zoo.rasters.stacks import Stack
from zoo.risk.apply import IndexSurface, Surface
from zoo.risk.calibration import index_features
from zoo.risk.classes import ClassBreaks, fit_breaks
from zoo.risk.index import RiskIndex
from zoo.risk.weights import ranges_of

Breaks = str | tuple[float, float] | None
Progress = Callable[[int, int], None] | None


@dataclass(frozen=True)
class Prepared:
    """Everything but the rain.

    Attributes:
        surface: what gives a risk to pixels.
        breaks: of the classes.
        index: None for a risk model.
        words: one line on where the risk comes from.
        tags: of the files.
        notes: what was found and decided on the way.
    """

    surface: Surface
    breaks: ClassBreaks
    index: RiskIndex | None
    words: str
    tags: Mapping[str, str]
    notes: tuple[str, ...] = field(default=())


def prepare_index(
    stack: Stack, weights: Path | None, *, classes: Breaks = None, seed: int = 0, progress: Progress = None
) -> Prepared:
    """Make an index ready for a stack.

    Ranges come from the file, else from the stack's own LSI, else from the 0.5 and 99.5 percentiles of this scene.
    Breaks come from the caller, else the file, else Jenks on this scene under the reference rain.

    Args:
        stack: an open one.
        weights: file of :meth:`RiskIndex.save` or ``zoo stack --save-weights``; None for Table 1.
        classes: "jenks", "quantile" or two breaks; None for those of the file.
        seed: of pixels drawn.
        progress: called with (windows done, all windows) when pixels have to be drawn.

    Raises:
        ZooError: if the file is damaged or does not fit the stack.
    """
    notes: list[str] = []
    if weights is None:
        index, origin = _own_index(stack, notes)
    else:
        index, origin = RiskIndex.load(weights), weights.name
        home = index.region.get("crs")
        if home is not None and home != crs_name(stack.crs):
            notes.append(f"the weights come from a region in {home}, the stack is in {crs_name(stack.crs)}")
    index.check_bands(stack.bands, stack.path)
    sample = None
    if not index.index.ranges or classes in ("jenks", "quantile") or (classes is None and index.classes is None):
        sample = sample_pixels(stack, index.features, None, seed=seed, progress=progress)
    if not index.index.ranges:
        assert sample is not None
        drawn = {name: sample.region[:, column] for column, name in enumerate(sample.names)}
        kept = {name: index.index.weights[name] for name in index.features}
        index = RiskIndex(
            IndexParameters(kept, ranges_of(drawn), index.index.rain, index.index.rain_clip, origin),
            index.form,
            index.intercept,
            index.slope,
            index.gain,
            index.classes,
            index.method,
        )
        notes.append(
            f"{origin}: scaled with this scene's own 0.5-99.5 percentiles, so the map compares slopes within the scene "
            "alone; weights of zoo risk calibrate carry over to other scenes"
        )
    surface = IndexSurface(index, stack.bands, stack.path)
    notes += surface.notes
    if isinstance(classes, tuple):
        breaks = ClassBreaks(*classes)
    elif sample is None:
        assert index.classes is not None
        breaks = index.classes
    else:
        drawn = {name: sample.region[:, column] for column, name in enumerate(sample.names)}
        breaks = fit_breaks(index.evaluate(drawn), classes or "jenks")
        notes.append(f"class breaks ({breaks.method}) were fitted to this scene under the reference rain")
    digest = index.digest() if weights is None else hashlib.sha256(weights.read_bytes()).hexdigest()
    terms = " ".join(f"{index.index.weights[name]:+.3g} {name}" for name in index.features)
    return Prepared(
        surface=surface,
        breaks=breaks,
        index=index,
        words=f"{index.form} index of {terms}; {origin} (sha256 {digest[:12]})",
        tags={
            **_common_tags(stack),
            "FORM": index.form,
            "WEIGHTS": origin,
            "WEIGHTS_SHA256": digest,
            TAG_INDEX: json.dumps(index.index.to_dict(), ensure_ascii=False),
        },
        notes=tuple(notes),
    )


def prepare_model(
    stack: Stack,
    name: str,
    inventory: Path,
    *,
    classes: Breaks = None,
    seed: int = 0,
    layer: str | None = None,
    where: str | None = None,
    buffer: float | None = None,
    progress: Progress = None,
) -> Prepared:
    """Fit a risk model to a stack and an inventory.

    Args:
        stack: an open one.
        name: of the risk model.
        inventory: polygons of landslides; ``layer``, ``where`` and ``buffer`` as
            :func:`zoo.rasters.inventory.read_inventory` takes them.
        classes: "jenks" (None), "quantile" or two breaks.
        seed: of pixels drawn and of the model.
        progress: called with (windows done, all windows) while pixels are drawn.

    Raises:
        ZooError: if the inventory is damaged or lies elsewhere, or the risk model cannot be fitted.
    """
    from zoo.risk.model_surface import fit_model

    slides = read_inventory(inventory, stack.crs, extent_of(stack), layer=layer, where=where, buffer=buffer)
    surface, sample = fit_model(name, stack, slides, seed=seed, progress=progress)
    if isinstance(classes, tuple):
        breaks = ClassBreaks(*classes)
    else:
        breaks = fit_breaks(surface.probability(sample.region), classes or "jenks")
    slide_pixels = int(np.sum(sample.labels))
    return Prepared(
        surface=surface,
        breaks=breaks,
        index=None,
        words=f"{name} fitted to {', '.join(sample.names)} and {inventory.name}",
        tags={**_common_tags(stack), "MODEL": name, "INVENTORY": inventory.name},
        notes=(
            *(f"{inventory.name}: {text}" for text in slides.notes),
            f"{name} fitted to {slide_pixels:,} landslide pixels and {len(sample.labels) - slide_pixels:,} others; its "
            "risk ranks places, and is no probability",
        ),
    )


def _common_tags(stack: Stack) -> dict[str, str]:
    tags = {"SOURCE": stack.path.name, "TIFFTAG_SOFTWARE": f"landslide-zoo {zoo.__version__}"}
    return tags | {name: stack.tags[name] for name in ("SCENE", "DATE", "PHASE") if name in stack.tags}


def _own_index(stack: Stack, notes: list[str]) -> tuple[RiskIndex, str]:
    """Table 1 for the bands that there are; with the ranges of the stack's LSI, where that is of Table 1 too."""
    names, told = index_features(stack)
    notes += told
    stored = stack.tags.get(TAG_INDEX)
    if stored is not None and len(names) == len(PAPER_WEIGHTS):
        try:
            return RiskIndex(IndexParameters.from_dict(json.loads(stored), stack.path)), f"the LSI of {stack.path.name}"
        except (ZooError, ValueError, AttributeError) as error:
            raise DataError(f"its tag {TAG_INDEX} is damaged ({error})", where=stack.path) from error
    weights = {name: PAPER_WEIGHTS[name] for name in names}
    size = sum(map(abs, weights.values()))
    return RiskIndex(IndexParameters({name: weight / size for name, weight in weights.items()})), "Table 1"
