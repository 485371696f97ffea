"""Compare images from before and after the landslides: difference channels on the grid of a stack."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from contextlib import ExitStack
from dataclasses import dataclass

import numpy as np
from odc.geo.geobox import GeoBox
from rasterio.windows import Window

from zoo.errors import DataError
from zoo.files import Closable
from zoo.physics import CHANGE_CHANNELS, Band
from zoo.rasters.alignment import AlignedBand, Values
from zoo.rasters.coregistration import Image, Shift, register
from zoo.rasters.layers import OPTICAL, Layer, Sources, open_layer
from zoo.rasters.optical import Calibration, UserOptics, choose_optics, cloud_pixels, sample
from zoo.rasters.stack_channels import VOLUMETRIC, ChannelMaker, Plan

INDEX_ROLES: Mapping[str, tuple[str, ...]] = {
    "dNDBI": ("swir", "nir"),
    "dNDVI": ("nir", "red"),
    "dNDWI": ("green", "nir"),
    "dBSI": ("swir", "red", "nir", "blue"),
}
"""Bands required for each difference, at both dates."""

COMPARED_ROLES = frozenset(role for roles in INDEX_ROLES.values() for role in roles)


@dataclass(frozen=True)
class Changes:
    """Difference channels of a stack.

    Attributes:
        channels: the channels, in the order of the file.
        missing: reason for each channel that cannot be computed, by name.
    """

    channels: tuple[Band, ...]
    missing: Mapping[str, str]

    @property
    def indices(self) -> tuple[str, ...]:
        """Compared indices: "NDVI" for "dNDVI"."""
        return tuple(band.name.removeprefix("d") for band in self.channels)

    @property
    def roles(self) -> frozenset[str]:
        """Roles of the bands that the channels are computed from."""
        return frozenset(role for band in self.channels for role in INDEX_ROLES[band.name])

    def open_layers(self, image: Sources) -> dict[str, Layer]:
        """Return the headers of the bands of an image that the channels need, with its scene classification."""
        return {role: open_layer(role, file) for role, file in image.files.items() if role in {*self.roles, "scl"}}


def plan_changes(after: Sources, before: Sources) -> Changes:
    """Choose the difference channels that two images allow, and check that the images can be compared.

    Raises:
        ConfigError: if the image before the landslides was not taken before the other.
        DataError: if the images differ in their bands, or have no index in common.
    """
    before.check_earlier(after, "the image", "Swap --pre and --post, or correct --pre-date and --date")
    roles = {name: COMPARED_ROLES & set(image.files) for name, image in (("after", after), ("before", before))}
    for one, other in (("after", "before"), ("before", "after")):
        lacking = sorted(roles[other] - roles[one])
        if lacking and roles[one]:
            raise DataError(
                f"the image {one} the landslides has no band {', '.join(lacking)}, but the image {other} them has it",
                hint="Give both dates the same bands",
            )
    missing = {
        name: f"no {' and no '.join(role for role in needed if role not in roles['after'])}"
        for name, needed in INDEX_ROLES.items()
        if not set(needed) <= roles["after"]
    }
    channels = tuple(band for band in CHANGE_CHANNELS if band.name not in missing)
    if not channels or not roles["before"]:
        raise DataError(
            f"no index can be compared: the bands are {_join_roles(roles['before'])} before the landslides and "
            f"{_join_roles(roles['after'])} after them",
            hint="Give both dates at least red and NIR",
        )
    return Changes(channels, missing)


class EarlierImage(Closable):
    """The image before the landslides, on the grid of the stack; a context manager.

    Args:
        sources: the image.
        changes: channels to compute.
        layers: its bands by role.
        grid: grid of the stack.

    Attributes:
        bands: bands by role, shifted after coregistration.
        calibrations: calibrations of the optical bands by role.
        shift: shift of the image relative to the later one; ``None`` until it is measured, or if it is unknown.
    """

    def __init__(self, sources: Sources, changes: Changes, layers: Mapping[str, Layer], grid: GeoBox) -> None:
        self.sources, self.changes = sources, changes
        self.calibrations: dict[str, Calibration] = {}
        self.shift: Shift | None = None
        self._layers, self._grid, self._moved = layers, grid, ""
        self._exits = ExitStack()
        self.bands = self._aligned(grid)

    def _aligned(self, grid: GeoBox) -> dict[str, AlignedBand]:
        try:
            return {role: self._exits.enter_context(AlignedBand(layer, grid)) for role, layer in self._layers.items()}
        except BaseException:
            self._exits.close()
            raise

    def choose_calibrations(
        self, later: Mapping[str, AlignedBand], later_date: str, user: UserOptics, *, coregister: bool
    ) -> tuple[list[str], list[str]]:
        """Choose the calibrations, measure the shift, and correct it on request.

        Args:
            later: bands of the image after the landslides, on the same grid.
            later_date: its ISO date, "" when unknown.
            user: the user's statements about the optical numbers.
            coregister: whether to correct the shift.

        Returns:
            Notes and warnings.

        Raises:
            DataError: if a shift of more than a pixel is neither corrected nor accepted, or a band has no data.
        """
        samples = sample(self.bands)
        for role, values in samples.items():
            if not np.isfinite(values).any():
                raise DataError("is nodata on the whole grid of the stack", where=self._layers[role].path)
        self.calibrations, notes, warnings = choose_optics(self._layers, samples, self.sources.baseline, user)
        notes, warnings = (
            [f"image before: {text}" for text in (*of, *some)]
            for of, some in ((self.sources.notes, notes), ((), warnings))
        )
        if not (later_date and self.sources.date):
            notes.append("the date of an image is unknown, so the order of the two dates was not checked")
        if ("scl" in later) != ("scl" in self.bands):
            which = "before" if "scl" in later else "after"
            warnings.append(
                f"the image {which} the landslides has no scene classification, so its clouds look like changes"
            )
        found = register(
            _cloud_free_nir(later),
            _cloud_free_nir(self.bands),
            self._apply_shift,
            (self._grid.shape[0], self._grid.shape[1]),
            names=("the image before", "the image after"),
            of="NIR",
            where=self._layers["nir"].path,
            coregister=coregister,
            force=user.force,
        )
        self.shift = found.shift
        return notes + found.notes, warnings + found.warnings

    def _apply_shift(self, shift: Shift) -> Image:
        self.bands = self._aligned(self._grid.translate_pix(shift.columns, shift.rows))
        self._moved = f"; moved from {shift}"
        return _cloud_free_nir(self.bands)

    def differences(self, after: Mapping[str, Values], window: Window) -> dict[str, Values]:
        """Return the difference channels of a window: after minus before, NaN where either date is hidden.

        Args:
            after: channels of the later image by name, with the indices of ``changes``.
            window: window of these channels.
        """
        maker = ChannelMaker(Plan(self.changes.indices, {}, "none"), self.bands, self.calibrations, VOLUMETRIC)
        before = maker.make(window)
        return {f"d{index}": after[index] - before[index] for index in self.changes.indices}

    def formulas(self, after: str) -> dict[str, str]:
        """Return the formula and the files of each channel, by channel; ``after`` is the date of the later image."""
        dates = (after or "the image after", self.sources.date or "the image before")
        masked = f"; masked by {self._layers['scl'].label}" if "scl" in self._layers else ""
        return {
            band.name: f"{index} of {dates[0]} minus {index} of {dates[1]}, of "
            f"{', '.join(dict.fromkeys(self._layers[role].label for role in INDEX_ROLES[band.name]))}; "
            f"{self.calibrations['nir'].how}{masked}{self._moved}"
            for band, index in zip(self.changes.channels, self.changes.indices, strict=True)
        }

    def close(self) -> None:
        """Close the files."""
        self._exits.close()


def _cloud_free_nir(bands: Mapping[str, AlignedBand]) -> Image:
    """Return NIR without clouds."""

    def read(window: Window) -> Values:
        values = bands["nir"].read(window)
        if "scl" in bands:
            values[cloud_pixels(bands["scl"].read(window))] = np.nan
        return values

    return read


def _join_roles(roles: Collection[str]) -> str:
    return ", ".join(role for role in OPTICAL if role in roles) or "none"
