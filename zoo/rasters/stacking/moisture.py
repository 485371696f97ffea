"""The range of a coarse soil-moisture product: which value is dry and which is saturated."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from zoo.errors import DataError
from zoo.rasters.layers import Layer

VOLUMETRIC = (0.0, 0.5)
"""m3/m3 from dry to saturated: half the volume of a loam is pores [O]."""

_UNITS = {
    "m3/m3": VOLUMETRIC,
    "m3 m-3": VOLUMETRIC,
    "m**3 m**-3": VOLUMETRIC,
    "m^3/m^3": VOLUMETRIC,
    "cm3/cm3": VOLUMETRIC,
    "cm3 cm-3": VOLUMETRIC,
    "1": (0.0, 1.0),
    "%": (0.0, 100.0),
    "percent": (0.0, 100.0),
}


def moisture_range(layer: Layer, numbers: NDArray[np.float32]) -> tuple[tuple[float, float], str]:
    """Settle dry and saturated value by the file's unit, or by its numbers when it has none.

    Args:
        layer: of role ``moisture``.
        numbers: physical values of some of its pixels.

    Returns:
        (dry, saturated), and a sentence that says who decided.

    Raises:
        DataError: if the unit is another one, or the numbers are neither m3/m3 nor a share.
    """
    if layer.unit:
        unit = layer.unit.strip().lower()
        if unit not in _UNITS:
            raise DataError(
                f"soil moisture in {layer.unit!r}",
                where=layer.path,
                hint="Say which values are dry and saturated: --moisture-range LOW,HIGH",
            )
        low, high = _UNITS[unit]
        return (low, high), f"{layer.label}: {layer.unit}, {low:g} counts as dry and {high:g} as saturated"
    known = numbers[np.isfinite(numbers)]
    if not known.size:
        return VOLUMETRIC, f"{layer.label}: no pixel within the stack"
    least, most = float(known.min()), float(known.max())
    if least < 0 or most > 1:
        raise DataError(
            f"soil moisture from {least:.3g} to {most:.3g}, without a unit",
            where=layer.path,
            hint="Say which values are dry and saturated: --moisture-range LOW,HIGH (per cent: 0,100)",
        )
    low, high = VOLUMETRIC if most <= 0.6 else (0.0, 1.0)
    kind = "m3/m3" if most <= 0.6 else "a share of saturation"
    return (low, high), (
        f"{layer.label}: says no unit; {least:.3g} to {most:.3g} was read as {kind}, {low:g} dry and {high:g} "
        "saturated. --moisture-range LOW,HIGH says it for certain"
    )
