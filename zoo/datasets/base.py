"""What every data set of the zoo is: patches of one size, with bands that have units and a place they come from."""

from __future__ import annotations

import abc
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
import torch
from matplotlib.colors import ListedColormap
from matplotlib.figure import Figure
from numpy.typing import NDArray
from torch import Tensor
from torchgeo.datasets import NonGeoDataset

from zoo.physics.bands import Band, display_bands

IGNORE = 255
"""Mask value of the pixels that count nowhere: no loss, no metric, no statistic (nodata, padding)."""

SPLITS: tuple[str, ...] = ("train", "val", "test")


class DataWarning(UserWarning):
    """Something about the data that makes a result doubtful without making it impossible."""


Sample = dict[str, Any]
Transform = Callable[[Sample], Sample]


@dataclass(frozen=True)
class Patch:
    """Where one patch comes from.

    Args:
        name: what a user recognises it by, unique in its data set (a file name without its suffix).
        group: scene, event or region; patches of one group may show the same ground.
        row: line of the patch in its group's grid, in patch units: patches whose row and column differ by one
            at most are neighbours on the ground (see ``PatchDataset.reach``). None when unknown.
        col: column, likewise.
    """

    name: str
    group: str
    row: int | None = None
    col: int | None = None


class PatchDataset(NonGeoDataset, abc.ABC):
    """Base class of the zoo's data sets: segmentation patches that know their bands and their origin.

    A subclass sets ``bands``, ``split``, ``patches`` and, where they are known, ``pixel_size`` and ``class_names``,
    and writes :meth:`read`, :meth:`_verify` and :meth:`fingerprint`.

    Dataset format:

    * a sample is ``{"image": float32 (C, H, W), "mask": int64 (H, W)}``
    * the image carries the units of ``bands`` and is not normalised: normalisation needs the training split's
      statistics (:mod:`zoo.datasets.statistics`) and belongs to the model bundle
    * NaN in an image is a missing value (nodata); :func:`zoo.datasets.statistics.normalise` turns it into 0, the mean
    * a mask holds class indices 0..K-1, and :data:`IGNORE` where nothing is known
    * all patches of a data set have one height and one width
    """

    bands: tuple[Band, ...]
    class_names: tuple[str, ...] = ("background", "landslide")
    pixel_size: float | None = None
    reach: int = 1
    """Distance on the grid, in patch units, up to which two patches touch: 1 side by side, more where they overlap."""
    split: str
    patches: tuple[Patch, ...]
    split_notes: tuple[str, ...] = ()
    transforms: Transform | None = None
    citation: ClassVar[str] = ""
    licence: str = ""

    @abc.abstractmethod
    def read(self, index: int) -> tuple[NDArray[np.float32], NDArray[np.integer[Any]]]:
        """Give one patch as arrays, before any transform.

        Args:
            index: 0 <= index < len(self).

        Returns:
            Image, float32 (C, H, W), in the units of ``bands``, NaN where missing; mask, integer (H, W). The caller
            may write into both.
        """

    @abc.abstractmethod
    def _verify(self) -> None:
        """Check that the data are there and whole.

        Raises:
            ZooError: one clear sentence naming the file at fault.
        """

    @abc.abstractmethod
    def fingerprint(self) -> str:
        """Give the sha256, in hex, of what this split contains, so that a result can name its data."""

    def __len__(self) -> int:
        """Give the number of patches in the split."""
        return len(self.patches)

    def __getitem__(self, index: int) -> Sample:
        """Give one sample.

        Args:
            index: position in ``patches``; a negative one counts from the end.

        Returns:
            ``{"image": float32 (C, H, W), "mask": int64 (H, W)}``, after ``transforms`` when there are any.

        Raises:
            IndexError: the index is outside the split.
        """
        length = len(self)
        if not -length <= index < length:
            raise IndexError(f"patch {index} of a split that holds {length}")
        image, mask = self.read(index % length)
        sample: Sample = {
            "image": torch.from_numpy(np.ascontiguousarray(image, dtype=np.float32)),
            "mask": torch.from_numpy(np.ascontiguousarray(mask, dtype=np.int64)),
        }
        return sample if self.transforms is None else self.transforms(sample)

    def plot(self, sample: Sample, show_titles: bool = True, suptitle: str | None = None) -> Figure:
        """Draw a sample: the image, its mask and, when the sample holds one, the "prediction".

        Args:
            sample: what ``__getitem__`` gives, optionally with "prediction", integer (H, W).
            show_titles: write a title over each panel.
            suptitle: title of the whole figure.

        Returns:
            A matplotlib figure that pyplot does not hold, so that drawing thousands leaks nothing.
        """
        panels: list[tuple[str, Tensor]] = [("mask", sample["mask"])]
        if "prediction" in sample:
            panels.append(("prediction", sample["prediction"]))
        shown = display_bands(self.bands)
        figure = Figure(figsize=(4 * (1 + len(panels)), 4.4), layout="constrained")
        axes = figure.subplots(1, 1 + len(panels))
        axes[0].imshow(stretch(sample["image"].detach().cpu().numpy()[list(shown)]), cmap="gray", vmin=0, vmax=1)
        if show_titles:
            axes[0].set_title(", ".join(self.bands[band].name for band in dict.fromkeys(shown)))
        colours = _class_colours(len(self.class_names))
        for ax, (title, classes) in zip(axes[1:], panels, strict=True):
            # IGNORE lies above every class, so it gets the last colour.
            ax.imshow(
                classes.detach().cpu().numpy(),
                cmap=colours,
                vmin=-0.5,
                vmax=len(self.class_names) + 0.5,
                interpolation="nearest",
            )
            if show_titles:
                ax.set_title(title)
        for ax in axes:
            ax.set_axis_off()
        if suptitle is not None:
            figure.suptitle(suptitle)
        return figure


def stretch(image: NDArray[np.floating[Any]]) -> NDArray[np.float32]:
    """Stretch each band between its 2nd and 98th percentile, for display.

    Args:
        image: (C, H, W) with C 1 or 3, any unit, NaN where missing.

    Returns:
        float32 (H, W) or (H, W, 3) in 0..1; a missing value is 0, a flat band 0.5.
    """
    out = np.zeros(image.shape, dtype=np.float32)
    for band, values in enumerate(image):
        finite = np.isfinite(values)
        if not finite.any():
            continue
        low, high = np.percentile(values[finite], (2, 98))
        scaled = (values - low) / (high - low) if high > low else np.full(values.shape, 0.5)
        out[band] = np.where(finite, np.clip(scaled, 0, 1), 0)
    return out[0] if len(out) == 1 else np.moveaxis(out, 0, -1)


def _class_colours(classes: int) -> ListedColormap:
    """Background dark, landslide orange-red, further classes told apart, IGNORE grey at the end."""
    named = ["#1b1f24", "#e4572e", "#f3a712", "#4c9f70", "#5b8dd9", "#a05bb5", "#c2c95b", "#7bd1c9"]
    return ListedColormap([named[index % len(named)] for index in range(classes)] + ["#9aa0a6"])
