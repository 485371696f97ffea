"""What a stack says of itself in its tags."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence

import zoo
from zoo.physics import Band, IndexParameters, OptramEdges
from zoo.physics.slope_safety import SAFETY_SOURCES, Soil
from zoo.rasters.alignment import AlignedBand
from zoo.rasters.layers import crs_name
from zoo.rasters.sources import Sources
from zoo.rasters.stacking.channels import Plan
from zoo.rasters.stacking.moments import RunningStatistics
from zoo.rasters.stacking.optical import Calibration
from zoo.rasters.stacking.options import StackOptions
from zoo.rasters.stacks import (
    FORMAT_VERSION,
    TAG_DATE,
    TAG_FORMAT,
    TAG_PHASE,
    TAG_RAIN,
    TAG_SCENE,
    TAG_SOURCE,
    TAG_VALID,
)

TAG_SOURCES = "SOURCES"
"""JSON: by role the file's name, band, grid, resampling, offset and scale."""

TAG_INDEX = "LSI_PARAMETERS"
"""JSON as :class:`zoo.physics.IndexParameters` writes it."""

TAG_NOTES = "NOTES"
"""JSON: sentences that were told to the user."""

TAG_SOFTWARE = "TIFFTAG_SOFTWARE"

_FORMULAS = {
    "NDBI": ("(SWIR - NIR) / (SWIR + NIR)", ("swir", "nir")),
    "NDVI": ("(NIR - Red) / (NIR + Red)", ("nir", "red")),
    "NDWI": ("(Green - NIR) / (Green + NIR)", ("green", "nir")),
    "slope": ("Horn (1981)", ("dem",)),
    "DEM": ("elevation", ("dem",)),
}


def band_sources(
    plan: Plan,
    bands: Mapping[str, AlignedBand],
    calibrations: Mapping[str, Calibration],
    moisture_range: tuple[float, float],
    edges: OptramEdges | None,
    index: IndexParameters | None,
    soil: Soil | None,
) -> dict[str, str]:
    """What each channel was made of and how, in words, by channel."""

    def files(*roles: str) -> str:
        told = []
        for role in roles:
            band = bands[role]
            how = "" if band.resampling == "none" else f" [{band.resampling}]"
            told.append(f"{band.layer.label}{how}")
        return ", ".join(dict.fromkeys(told))

    def optics(*roles: str) -> str:
        told = dict.fromkeys(calibrations[role].how for role in roles if role in calibrations)
        mask = f"; masked by {files('scl')}" if "scl" in bands and told else ""
        return f"; {'; '.join(told)}{mask}" if told else ""

    words = {}
    for name in plan.channels:
        if name in _FORMULAS:
            formula, roles = _FORMULAS[name]
            words[name] = f"{formula} of {files(*roles)}{optics(*roles)}"
        elif name == "SMI" and plan.moisture == "product":
            low, high = moisture_range
            words[name] = f"coarse product {files('moisture')}, {low:g} to {high:g} scaled to 0-1"
        elif name == "SMI" and plan.moisture == "ndmi":
            words[name] = f"(NDMI + 1) / 2 of {files('nir', 'swir')}: -NDBI over again{optics('nir', 'swir')}"
        elif name == "SMI" and edges is not None:
            words[name] = (
                f"OPTRAM (Sadeghi et al. 2017) of {files('swir2', 'nir', 'red')}; STR dry {edges.dry_intercept:.4g} + "
                f"{edges.dry_slope:.4g} NDVI, wet {edges.wet_intercept:.4g} + {edges.wet_slope:.4g} NDVI"
                f"{optics('swir2', 'nir', 'red')}"
            )
        elif name == "LSI" and index is not None:
            terms = " ".join(f"{weight:+g} {channel}" for channel, weight in index.weights.items())
            words[name] = f"sigmoid(R_m ({terms})), channels scaled to 0-1 with the ranges of {index.source}"
    if soil is not None:
        words |= {name: f"{source}; one soil everywhere: {soil}" for name, source in SAFETY_SOURCES.items()}
    return words


def band_tags(band: Band, source: str, statistics: RunningStatistics) -> dict[str, str]:
    """Tags of one band: source, valid range, statistics."""
    bounds = {name: f"{bound:g}" for name, bound in zip(TAG_VALID, (band.valid_min, band.valid_max), strict=True)}
    return {TAG_SOURCE: source, "LONG_NAME": band.description, **bounds, **statistics.tags()}


def file_tags(
    sources: Sources,
    options: StackOptions,
    bands: Mapping[str, AlignedBand],
    calibrations: Mapping[str, Calibration],
    index: IndexParameters | None,
    notes: Sequence[str],
) -> dict[str, str]:
    """Tags of the file; those of which nothing is known are left out."""
    tags = {
        TAG_FORMAT: FORMAT_VERSION,
        TAG_SCENE: sources.scene,
        TAG_DATE: sources.date,
        TAG_PHASE: options.phase,
        TAG_RAIN: "" if options.rain is None else f"{options.rain[0]:g},{options.rain[1]:g}",
        "SOIL": "" if options.soil is None else str(options.soil),
        TAG_SOURCES: _json({role: _entry(band, calibrations.get(role)) for role, band in bands.items()}),
        TAG_INDEX: "" if index is None else _json(index.to_dict()),
        TAG_NOTES: _json(list(notes)) if notes else "",
        "BASELINE": options.baseline or sources.baseline,
        TAG_SOFTWARE: f"landslide-zoo {zoo.__version__}",
    }
    return {name: text for name, text in tags.items() if text}


def _entry(band: AlignedBand, calibration: Calibration | None) -> dict[str, object]:
    layer = band.layer
    entry: dict[str, object] = {
        "file": layer.label,
        "band": layer.file.band,
        "crs": crs_name(layer.crs),
        "pixel_m": round(layer.pixel_metres, 3),
        "resampling": band.resampling,
    }
    if calibration is not None:
        entry |= {"offset": calibration.offset, "scale": calibration.scale, "calibration": calibration.how}
    return entry


def _json(value: object) -> str:
    return json.dumps(value, ensure_ascii=False)
