"""Which acquisitions of a series a patch is made of."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Mapping

import numpy as np
from numpy.typing import NDArray

from zoo.datasets.sen12landslides.netcdf import Header

NO_DATA = 0
UNKNOWN = 255
"""Not a class of Sentinel-2's scene classification; some files hold it over a whole image whose classification is
missing. Such pixels may be clear or not: they count as hidden when an image is chosen, and stay in it."""

HIDDEN: tuple[int, ...] = (NO_DATA, 1, 3, 8, 9, 10, 11)
"""Classes under which the ground is not seen: no data, defective, cloud shadow, medium and high cloud, cirrus, snow.
The authors' list has 2 too, dark ground in the shade of hills [S]; there the ground is seen, so it is not here [O]."""


def hidden_share(classes: NDArray[np.float32]) -> float:
    """Give the share of pixels of a scene classification, (H, W), that do not show the ground for certain."""
    return float(np.mean(np.isin(classes, (*HIDDEN, UNKNOWN)) | np.isnan(classes)))


def reference_dates(regions: Mapping[str, str], headers: Mapping[str, Header]) -> dict[str, str]:
    """Give each region the most frequent date of its events; the earlier one of two that are equally frequent.

    Patches without a landslide have no event. They take this date, so that images of both kinds of patches come from
    the same season [O].

    Args:
        regions: region of each patch.
        headers: header of each patch.
    """
    counts: dict[str, Counter[str]] = {}
    for name, header in headers.items():
        counts.setdefault(regions[name], Counter()).update(header.events)
    return {
        region: min(found, key=lambda event: (-found[event], event))
        for region, found in sorted(counts.items())
        if found
    }


def why_not(header: Header, dates: str, reference: str | None) -> str | None:
    """Say why a patch has no image of the kind asked for; None when it has."""
    if dates == "all":
        return None
    if header.undated:
        return "a landslide without a date"
    if not header.events and reference is None:
        return "no event is dated in its region"
    before, after = _sides(header, reference)
    if dates in ("post", "pre_post") and not after:
        return "no image after its event"
    if dates in ("pre", "pre_post") and not before:
        return "no image before its event"
    return None


def choose(
    header: Header, dates: str, reference: str | None, max_cloud: float, share: Callable[[int], float]
) -> list[int]:
    """Choose acquisitions.

    "post": the first image dated after the last event of the patch whose hidden share is at most ``max_cloud``, else
    the clearest after it. "pre": the last one dated before the first event, likewise. An image of the event's own
    day may show the ground before it, so it is neither [O]. "pre_post": both. "all": all.

    Args:
        header: of the patch; :func:`why_not` gave None for it.
        dates: "post", "pre", "pre_post" or "all".
        reference: date that stands for the event of a patch without one.
        max_cloud: 0..1.
        share: gives the hidden share of an acquisition, by its position in ``header.times``.

    Returns:
        Positions in ``header.times``.
    """
    if dates == "all":
        return list(range(len(header.times)))
    before, after = _sides(header, reference)
    chosen = []
    if dates in ("pre", "pre_post"):
        chosen.append(_clear(reversed(before), max_cloud, share))
    if dates in ("post", "pre_post"):
        chosen.append(_clear(after, max_cloud, share))
    return chosen


def _sides(header: Header, reference: str | None) -> tuple[list[int], list[int]]:
    events = header.events or ((reference,) if reference else ())
    before = [index for index, time in enumerate(header.times) if events and time < events[0]]
    after = [index for index, time in enumerate(header.times) if events and time > events[-1]]
    return before, after


def _clear(candidates: Iterable[int], max_cloud: float, share: Callable[[int], float]) -> int:
    shares: dict[int, float] = {}
    for index in candidates:
        shares[index] = share(index)
        if shares[index] <= max_cloud:
            return index
    return min(shares, key=lambda index: shares[index])
