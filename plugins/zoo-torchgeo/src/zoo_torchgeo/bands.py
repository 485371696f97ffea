"""Match the bands of the data to the bands of published weights by name and wavelength. Imports no torch.

The wavelengths are nominal centres in nanometres [S: the satellites' handbooks]. A name such as ``B4`` means different
bands on different satellites, so every look-up has a sensor.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

Sensor = Literal["sentinel2", "landsat_tm", "landsat_etm", "landsat_oli"]

TOLERANCE = 0.035
"""Maximum relative difference of two wavelengths that count as the same band [O]. B8 and B8A of Sentinel-2 are within
it, as are B11 and band 5 of Landsat TM; red and the first red edge, 6 % apart, are not."""

_SENTINEL2 = {
    "B1": (443, 20), "B2": (490, 65), "B3": (560, 35), "B4": (665, 30), "B5": (705, 15), "B6": (740, 15),
    "B7": (783, 20), "B8": (842, 115), "B8A": (865, 20), "B9": (945, 20), "B10": (1375, 30), "B11": (1610, 90),
    "B12": (2190, 180),
}  # fmt: skip
_TM = {
    "B1": (485, 70), "B2": (560, 80), "B3": (660, 60), "B4": (830, 140), "B5": (1650, 200), "B6": (11450, 2100),
    "B7": (2215, 270),
}  # fmt: skip
_ETM = {**_TM, "B6_VCID_1": (11450, 2100), "B6_VCID_2": (11450, 2100), "B8": (710, 380)}
_OLI = {
    "B1": (443, 16), "B2": (482, 60), "B3": (561, 57), "B4": (655, 38), "B5": (865, 28), "B6": (1609, 85),
    "B7": (2201, 187), "B8": (590, 172), "B9": (1373, 20), "B10": (10895, 590), "B11": (12005, 1010),
}  # fmt: skip
_SENSORS: dict[str, dict[str, tuple[int, int]]] = {
    "sentinel2": _SENTINEL2,
    "landsat_tm": _TM,
    "landsat_etm": _ETM,
    "landsat_oli": _OLI,
}
_COLOURS = {
    "COASTAL": (443, 20), "BLUE": (490, 65), "GREEN": (560, 35), "RED": (665, 30), "REDEDGE": (705, 15),
    "REDEDGE1": (705, 15), "REDEDGE2": (740, 15), "REDEDGE3": (783, 20), "NIR": (842, 115), "NIR08": (865, 20),
    "SWIR1": (1610, 90), "SWIR16": (1610, 90), "SWIR2": (2190, 180), "SWIR22": (2190, 180),
    "R": (665, 30), "G": (560, 35), "B": (490, 65),
}  # fmt: skip
_NAMED = ("VV", "VH", "HH", "HV", "NDVI")

SENTINEL2_STATISTICS = {
    "B1": (1612.9, 791.0), "B2": (1397.6, 854.3), "B3": (1322.3, 878.7), "B4": (1373.1, 1144.9), "B5": (1561.0, 1127.5),
    "B6": (2108.4, 1164.2), "B7": (2390.7, 1276.0), "B8": (2318.7, 1249.5), "B8A": (2581.0, 1345.9),
    "B9": (837.7, 577.5), "B10": (22.0, 47.5), "B11": (2195.2, 1340.0), "B12": (1537.4, 1142.9),
}  # fmt: skip
"""Mean and standard deviation of Sentinel-2 digital numbers in SSL4EO-S12 [S: torchgeo.models.resnet, ``_mean_s2``]."""


@dataclass(frozen=True)
class Channel:
    """The quantity that a band measures.

    Attributes:
        key: name of the band without date and leading zeros, such as ``B8A`` or ``VV``; empty if it is unknown.
        sensor: sensor of the key; empty for names that mean the same on every sensor.
        wavelength: centre in nanometres; ``None`` for radar, indices, terrain and unknown bands.
        bandwidth: width in nanometres.
    """

    key: str = ""
    sensor: str = ""
    wavelength: int | None = None
    bandwidth: int | None = None


def read_name(name: str, sensor: str = "sentinel2") -> Channel:
    """Return the channel that a band name stands for.

    Args:
        name: name such as ``B4``, ``B04_post``, ``SR_B4``, ``red``, ``nir``, ``swir1``, ``VV`` or ``slope``.
        sensor: satellite that names such as ``B4`` belong to.
    """
    whole = name.strip().upper().removeprefix("SR_")
    for text in (whole, whole.replace("_", "").replace("-", ""), whole.partition("_")[0]):
        key = f"B{text[2:]}" if text[:2] == "B0" else text
        if key in _SENSORS[sensor]:
            return Channel(key, sensor, *_SENSORS[sensor][key])
        if key in _COLOURS:
            return Channel(key, "", *_COLOURS[key])
        if key in _NAMED:
            return Channel(key)
    return Channel()


@dataclass(frozen=True)
class Matching:
    """Assignment of the bands of the data to the bands of published weights.

    Attributes:
        data: names of the bands of the data.
        trained: names of the bands that the weights were trained with.
        feeds: positions in ``trained``, for each band of the data. Empty for a band that the weights do not have; more
            than one if the weights have a band at several dates and the data have it once.
    """

    data: tuple[str, ...]
    trained: tuple[str, ...]
    feeds: tuple[tuple[int, ...], ...]

    @property
    def missing(self) -> tuple[int, ...]:
        """Positions of the trained bands that the data do not have."""
        fed = {slot for slots in self.feeds for slot in slots}
        return tuple(slot for slot in range(len(self.trained)) if slot not in fed)

    @property
    def extra(self) -> tuple[int, ...]:
        """Positions of the bands of the data that the weights do not have."""
        return tuple(index for index, slots in enumerate(self.feeds) if not slots)

    @property
    def fits(self) -> bool:
        """Whether at least one band was matched."""
        return any(self.feeds)

    def describe(self) -> str:
        """Describe which bands match, which are missing and which are extra."""
        pairs = [
            f"{name} -> {'+'.join(self.trained[slot] for slot in slots)}"
            for name, slots in zip(self.data, self.feeds, strict=True)
            if slots
        ]
        if not pairs:
            return (
                "no band of the data is among the trained bands "
                f"({', '.join(self.trained)}); the mean kernel of the trained bands is used for every band"
            )
        parts = [f"matched {', '.join(pairs)}"]
        if self.missing:
            names = ", ".join(self.trained[slot] for slot in self.missing)
            parts.append(f"missing {names} (filled with their mean in pretraining)")
        if self.extra:
            parts.append(f"extra {', '.join(self.data[index] for index in self.extra)} (their kernels start at zero)")
        return "; ".join(parts)


def match(data: Sequence[str], trained: Sequence[str], sensor: str, trained_sensor: str) -> Matching:
    """Match bands by name, or by wavelength within :data:`TOLERANCE`, the nearest first.

    Each trained band gets one band of the data, the last one if the data have several dates. Weights with a band at two
    dates get both dates of the data, or the single date twice.

    Args:
        data: names of the bands of the data, in order.
        trained: names of the bands of the weights, in order.
        sensor: sensor of the data's names.
        trained_sensor: sensor of the weights' names.
    """
    own = [read_name(name, sensor) for name in data]
    trained_channels = [read_name(name, trained_sensor) for name in trained]
    pairs = sorted(
        (distance, -slot, -index)
        for index, channel in enumerate(own)
        for slot, wanted in enumerate(trained_channels)
        if (distance := _distance(channel, wanted)) is not None
    )
    source: dict[int, int] = {}
    for _, slot, index in pairs:
        if -slot not in source and -index not in source.values():
            source[-slot] = -index
    for slot, wanted in enumerate(trained_channels):
        same = [
            source[other] for other, candidate in enumerate(trained_channels) if candidate == wanted and other in source
        ]
        if slot not in source and same and trained.count(trained[slot]) > 1:
            source[slot] = same[-1]
    feeds = tuple(tuple(slot for slot in sorted(source) if source[slot] == index) for index in range(len(own)))
    return Matching(tuple(data), tuple(trained), feeds)


def _distance(channel: Channel, wanted: Channel) -> float | None:
    """Return 0 for the same band, the relative difference for near wavelengths, or None."""
    if channel.key and (channel.key, channel.sensor) == (wanted.key, wanted.sensor):
        return 0.0
    if channel.wavelength is None or wanted.wavelength is None:
        return None
    difference = abs(channel.wavelength - wanted.wavelength) / wanted.wavelength
    return difference if difference <= TOLERANCE else None
