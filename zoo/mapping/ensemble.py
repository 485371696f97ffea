"""Ensembles of bundles: check that they are compatible, and return the tags of their map."""

from __future__ import annotations

from collections.abc import Sequence

from zoo.errors import ConfigError
from zoo.evaluation.quality import NOT_MEASURED, quality_line
from zoo.training.bundle import Bundle


def check_ensemble(members: Sequence[Bundle]) -> None:
    """Check that bundles can be mapped together.

    Raises:
        ConfigError: if bands, classes or pixel sizes differ, or two bundles have the same weights.
    """
    first = members[0]
    for number, one in enumerate(members[1:], 2):
        for what, own, other in (
            ("other bands", _bands(first), _bands(one)),
            ("other classes", ", ".join(first.class_names), ", ".join(one.class_names)),
            ("another pixel size", _pixel(first), _pixel(one)),
        ):
            if own != other:
                raise ConfigError(
                    f"bundle {number} of the ensemble has {what}: {other}; the first has {own}",
                    where="--ensemble",
                    hint="Combine bundles that were trained on the same bands, classes and pixel size",
                )
    digests = [one.weights_sha256 for one in members if one.weights_sha256]
    if len(set(digests)) < len(digests):
        raise ConfigError("two bundles have the same weights", where="--ensemble", hint="Name different bundles")


def model_tags(members: Sequence[Bundle], *, adapted: bool) -> dict[str, str]:
    """Return the tags of a map that state its models, their weights and their quality."""
    first = members[0]
    adapted = adapted or first.adaptation is not None
    quality = quality_line(first.quality(adapted=adapted), adapted=adapted)
    ensemble = {}
    if len(members) > 1:
        ensemble["ENSEMBLE"] = str(len(members))
        quality = f"mean of {len(members)} models, {NOT_MEASURED} together; the first: {quality}"
    label = {"LABEL": first.label} if first.label else {}
    return {
        "MODEL": ", ".join(dict.fromkeys(one.model for one in members)),
        "WEIGHTS_SHA256": ", ".join(one.weights_sha256 for one in members),
        "QUALITY": quality,
        **ensemble,
        **label,
    }


def _bands(bundle: Bundle) -> str:
    return ", ".join(f"{band.name} [{band.unit}]" for band in bundle.bands)


def _pixel(bundle: Bundle) -> str:
    return "an unknown size" if bundle.pixel_size is None else f"{bundle.pixel_size:g} m"
