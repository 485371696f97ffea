"""What a stack is made of: which file holds which quantity, and how its numbers become physical ones."""

from __future__ import annotations

from dataclasses import dataclass, field, replace

from zoo.errors import ConfigError

OPTICAL: tuple[str, ...] = ("green", "red", "nir", "swir", "swir2")
"""Reflectances; Sentinel-2: B03, B04, B08, B11, B12."""

ROLES: tuple[str, ...] = (*OPTICAL, "scl", "dem", "moisture", "rain_intensity", "rain_duration")
"""``scl`` is the scene classification of Sentinel-2 level 2A; ``moisture`` a coarse soil-moisture product in m3/m3 or
0-1; rain in mm/h and days."""


@dataclass(frozen=True)
class BandFile:
    """One band of one file.

    Physical value = (number in the file + ``offset``) * ``scale``, Sentinel-2's order: BOA_ADD_OFFSET is added to the
    digital number before it is divided by the quantification value.

    Attributes:
        path: anything GDAL opens, ``/vsizip/`` and ``/vsicurl/`` too.
        band: number of the band in the file, from 1.
        offset: added to the numbers, -1000 for Sentinel-2 since processing baseline 04.00; None when it is not known
            and has to be told by a look at dark pixels.
        scale: multiplied afterwards, 1e-4 for Sentinel-2 reflectance; None when it is not known and has to be told by
            the kind and size of the numbers.
        nodata: number that means nothing; None for what the file says.
    """

    path: str
    band: int = 1
    offset: float | None = 0.0
    scale: float | None = 1.0
    nodata: float | None = None


@dataclass(frozen=True)
class Sources:
    """Files by the quantity they hold.

    Attributes:
        files: by role, one of :data:`ROLES`.
        scene: name of the scene or tile, "" when unknown.
        date: ISO date of the optical image, "" when unknown.
        baseline: processing baseline of Sentinel-2, such as "05.09", "" when unknown.
        notes: what was found and decided on the way, in words; printed and kept in the stack's tags.

    Raises:
        ConfigError: for a role that does not exist.
    """

    files: dict[str, BandFile]
    scene: str = ""
    date: str = ""
    baseline: str = ""
    notes: tuple[str, ...] = field(default=())

    def __post_init__(self) -> None:
        unknown = sorted(set(self.files) - set(ROLES))
        if unknown:
            raise ConfigError(f"unknown role {unknown[0]!r} of a raster", hint=f"There are: {', '.join(ROLES)}")

    def merged(self, other: Sources) -> Sources:
        """These files and those of ``other``, which win where both have a role."""
        return replace(
            self,
            files={**self.files, **other.files},
            scene=other.scene or self.scene,
            date=other.date or self.date,
            baseline=other.baseline or self.baseline,
            notes=(*self.notes, *other.notes),
        )
