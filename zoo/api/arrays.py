"""Input arrays of a model: NumPy arrays, torch tensors and labelled ``xarray.DataArray`` objects."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from zoo.errors import DataError

_BAND_DIMENSIONS = ("band", "bands", "channel", "channels", "variable")
_NORTHINGS, _EASTINGS = ("y", "lat", "latitude", "northing"), ("x", "lon", "longitude", "easting")


def read_array(image: Any) -> NDArray[np.float32]:
    """Return an array or tensor as float32, with NaN where a masked array is masked.

    Raises:
        DataError: if it holds no real numbers.
    """
    given = image.detach().cpu() if hasattr(image, "detach") else image
    array = np.ma.asanyarray(given) if isinstance(given, np.ma.MaskedArray) else np.asarray(given)
    if array.dtype.kind not in "iufb":
        raise DataError(f"an image of dtype {array.dtype} is not numeric", hint="Give floats or integers")
    plain: NDArray[np.float32] = np.ma.filled(array.astype(np.float32), np.nan)
    return plain


def predict_labelled(
    image: Any, wanted: Sequence[str], expected: str, predict: Callable[[NDArray[np.float32]], NDArray[np.float32]]
) -> Any:
    """Return the prediction for an ``xarray.DataArray`` as a DataArray with the same coordinates.

    Bands are ordered by their names. The attributes ``_FillValue`` or ``nodata``, ``scale_factor`` and ``add_offset``
    are applied, and an image with south up or east on the left is flipped for the model.

    Args:
        image: the DataArray.
        wanted: names of the model's bands.
        expected: description of the model's input, for errors.
        predict: function that returns the probability for a float32 array (..., C, H, W).

    Raises:
        DataError: if the array has the wrong number of dimensions or other bands, or its scale is not a number.
    """
    dimensions = [str(name) for name in image.dims]
    if image.ndim not in (3, 4):
        raise DataError(f"expected a DataArray of 3 or 4 dimensions, got {tuple(dimensions)}", hint=expected)
    named = [name for name in dimensions if name in _BAND_DIMENSIONS]
    band = named[0] if named else dimensions[-3]
    rest = [name for name in image.dims if name != band]
    image = _ordered(image.transpose(*rest[:-2], band, *rest[-2:]), band, wanted, expected)
    turned = {
        name: slice(None, None, -1)
        for name, names, sign in ((rest[-2], _NORTHINGS, 1), (rest[-1], _EASTINGS, -1))
        if _is_flipped(image, name, names, sign)
    }
    image = image.isel(turned)
    result = image.isel({band: 0}, drop=True).copy(data=predict(_values(image))).isel(turned)
    result.name = "landslide_probability"
    result.attrs = {"long_name": "probability of a landslide", "units": "1"}
    result.encoding = {}
    return result


def _ordered(image: Any, band: str, wanted: Sequence[str], expected: str) -> Any:
    """Return an image with its bands in the order of the model, if the bands are named."""
    names = [str(name) for name in image.coords[band].values] if band in image.coords else []
    if set(wanted) <= set(names):
        return image.isel({band: [names.index(name) for name in wanted]})
    if any(not _is_number(name) for name in names):
        raise DataError(f"the bands are {', '.join(names)}", where="coordinate of the DataArray", hint=expected)
    return image


def _is_number(text: str) -> bool:
    try:
        float(text)
    except ValueError:
        return False
    return True


def _is_flipped(image: Any, name: Any, names: Sequence[str], sign: int) -> bool:
    """Return whether a map coordinate increases down the rows (sign 1) or decreases along the columns (sign -1)."""
    if str(name).casefold() not in names or name not in image.coords:
        return False
    places = np.asarray(image.coords[name].values)
    if places.ndim != 1 or len(places) < 2 or places.dtype.kind not in "iuf":
        return False
    # Row and column numbers are not map coordinates.
    counted = np.array_equal(places - places[0], np.arange(len(places))) and 0 <= places[0] <= 1
    return not counted and sign * float(places[-1] - places[0]) > 0


def _values(image: Any) -> NDArray[np.float32]:
    """Return the values of an image in its unit, float32, with NaN where its attributes mark them as missing."""
    values = read_array(image.values).copy()
    for nodata in (image.attrs.get("_FillValue"), image.attrs.get("nodata"), image.encoding.get("_FillValue")):
        if isinstance(nodata, (int, float, np.number)):
            values[values == np.float32(nodata)] = np.nan
    scale, offset = (_attribute(image, name, plain) for name, plain in (("scale_factor", 1.0), ("add_offset", 0.0)))
    return values if (scale, offset) == (1.0, 0.0) else values * np.float32(scale) + np.float32(offset)


def _attribute(image: Any, name: str, otherwise: float) -> float:
    given = image.attrs.get(name, otherwise)
    try:
        return float(given)
    except (TypeError, ValueError):
        raise DataError(f"its attribute {name} is {given!r}, not a number", where="DataArray") from None
