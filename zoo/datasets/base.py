"""Interface of every data set: patches of equal size, with bands that have units and a known origin."""

from __future__ import annotations

import abc
import functools
import hashlib
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

from zoo.errors import DataError
from zoo.physics.bands import Band, display_bands

IGNORE = 255
"""Mask value of ignored pixels (nodata, padding), which are excluded from losses, metrics and statistics."""

SPLITS: tuple[str, ...] = ("train", "val", "test")


class DataWarning(UserWarning):
    """Warning about data that can make a result unreliable."""


Sample = dict[str, Any]
Transform = Callable[[Sample], Sample]


@dataclass(frozen=True)
class Patch:
    """Name and location of a patch.

    Args:
        name: name that a user recognises, unique in its data set (a file name without its suffix).
        group: scene, event or region; patches of one group may show the same ground.
        row: row of the patch in the grid of its group, in patch units; None if unknown. Patches whose row and column
            differ by at most one are neighbours on the ground (see ``PatchDataset.reach``).
        col: column of the patch in the same grid; None if unknown.
    """

    name: str
    group: str
    row: int | None = None
    col: int | None = None


def _name_patch_in_errors(read: Callable[..., Any]) -> Callable[..., Any]:
    @functools.wraps(read)
    def named(self: PatchDataset, index: int) -> Any:
        try:
            return read(self, index)
        except (Exception, SystemExit) as error:
            if not getattr(error, "__notes__", None):
                place = self.patches[index].name if 0 <= index < len(self.patches) else index
                error.add_note(f"while reading patch {place!r} of {type(self).__name__}")
            raise

    return named


class PatchDataset(NonGeoDataset, abc.ABC):
    """Base class of data sets: patches for segmentation with known bands and origin.

    A data set is one split. Its constructor is called as ``target(root=..., split=..., transforms=..., **options)``:

    * ``root``: the folder with the files, or None for a default
    * ``split``: "train", "val" or "test"
    * ``transforms``: function that is applied to every sample, or None
    * ``progress``: passed only if the constructor has an argument of this name; called as ``progress(done, total)``
    * all other keyword arguments are options of the data set; ``zoo datasets show NAME`` lists them with the
      defaults from the signature and the descriptions from the docstring

    The constructor must set these attributes:

    * ``bands``: tuple of :class:`zoo.physics.bands.Band`, one per channel of an image, in order
    * ``split``: the name of the split
    * ``patches``: tuple of :class:`Patch`, one per patch of the split, in order
    * ``transforms``: the argument

    It may set ``class_names``, ``pixel_size`` (metres), ``reach`` and ``split_notes`` (sentences about the split, shown
    with results). A subclass must implement :meth:`read`. It may override :meth:`_verify`, which its constructor calls
    to check the files, and :meth:`fingerprint`, which by default reads every patch.

    Dataset format:

    * a sample is ``{"image": float32 (C, H, W), "mask": int64 (H, W)}``
    * an image is in the units of ``bands``; it is not normalised, because normalisation needs the statistics of the
      training split (:mod:`zoo.datasets.statistics`) and belongs to the model bundle
    * NaN in an image is a missing value (nodata); normalisation replaces it with 0, the mean
    * a mask holds class indices 0..K-1, and :data:`IGNORE` for ignored pixels
    * all patches of a data set have the same height and width

    Examples:
        >>> import numpy as np
        >>> from zoo.datasets import Patch, PatchDataset
        >>> from zoo.physics.bands import Band
        >>> class Stripes(PatchDataset):
        ...     def __init__(self, root=None, split="train", transforms=None, *, size: int = 64):
        ...         self.split, self.transforms, self.size = split, transforms, size
        ...         self.bands = (Band("red", "1"), Band("nir", "1"))
        ...         self.patches = (Patch("north", group="valley"), Patch("south", group="valley"))
        ...
        ...     def read(self, index):
        ...         mask = np.zeros((self.size, self.size), np.uint8)
        ...         mask[index::8] = 1
        ...         return np.stack([mask, 1 - mask]).astype(np.float32), mask
        >>> data = Stripes(split="test")
        >>> len(data), data[0]["image"].shape
        (2, torch.Size([2, 64, 64]))
    """

    bands: tuple[Band, ...]
    class_names: tuple[str, ...] = ("background", "landslide")
    pixel_size: float | None = None
    """Side of a pixel in metres; None if it is unknown or differs between patches."""
    reach: int = 1
    """Maximum grid distance at which patches touch, in patch units: 1 for adjacent patches, more if they overlap."""
    split: str
    patches: tuple[Patch, ...]
    split_notes: tuple[str, ...] = ()
    transforms: Transform | None = None
    citation: ClassVar[str] = ""
    licence: str = ""

    def __init_subclass__(cls, **arguments: Any) -> None:
        """Wrap the subclass's ``read`` so that its errors name the patch."""
        super().__init_subclass__(**arguments)
        if "read" in vars(cls):
            cls.read = _name_patch_in_errors(vars(cls)["read"])  # type: ignore[method-assign]

    @abc.abstractmethod
    def read(self, index: int) -> tuple[NDArray[np.float32], NDArray[np.integer[Any]]]:
        """Return one patch as arrays, before any transform.

        Args:
            index: 0 <= index < len(self).

        Returns:
            Image, float32 (C, H, W), in the units of ``bands``, NaN where missing; mask, integer (H, W). The caller
            may modify both.
        """

    def _verify(self) -> None:
        """Check that all files exist and are complete. The constructor of a data set calls it.

        Raises:
            ZooError: if a file is missing or damaged; the message names it.
        """

    def fingerprint(self) -> str:
        """Return the sha256, in hex, of the content of this split, so that results can identify their data."""
        total = hashlib.sha256(repr((self.split, self.bands, self.class_names, self.patches)).encode())
        for index in range(len(self)):
            for values in self.read(index):
                total.update(repr((values.shape, str(values.dtype))).encode())
                total.update(np.ascontiguousarray(values).data)
        return total.hexdigest()

    def __len__(self) -> int:
        """Return the number of patches in the split."""
        return len(self.patches)

    def __getitem__(self, index: int) -> Sample:
        """Return one sample.

        Args:
            index: index into ``patches``; a negative index counts from the end.

        Returns:
            ``{"image": float32 (C, H, W), "mask": int64 (H, W)}``, after ``transforms`` if given.

        Raises:
            IndexError: if the index is outside the split.
            DataError: if :meth:`read` returned arrays of the wrong type or shape.
        """
        length = len(self)
        if not -length <= index < length:
            raise IndexError(f"patch {index} of a split that holds {length}")
        image, mask = self._checked(index % length)
        sample: Sample = {
            "image": torch.from_numpy(np.ascontiguousarray(image, dtype=np.float32)),
            "mask": torch.from_numpy(np.ascontiguousarray(mask, dtype=np.int64)),
        }
        return sample if self.transforms is None else self.transforms(sample)

    def _checked(self, index: int) -> tuple[NDArray[Any], NDArray[Any]]:
        found: Any = self.read(index)
        where = f"patch {self.patches[index].name!r} of {type(self).__name__}"
        if not (isinstance(found, tuple) and len(found) == 2 and all(isinstance(one, np.ndarray) for one in found)):
            raise DataError("read did not return two arrays", where=where, hint="Return image and mask")
        image, mask = found
        if image.ndim != 3 or len(image) != len(self.bands):
            problem = f"read returned an image of shape {image.shape} for {len(self.bands)} bands"
            raise DataError(problem, where=where, hint="Return (C, H, W)")
        if mask.shape != image.shape[1:] or mask.dtype.kind not in "iub":
            problem = f"read returned a mask of {mask.dtype} and shape {mask.shape}"
            raise DataError(problem, where=where, hint=f"Return integers of shape {image.shape[1:]}")
        return image, mask

    def plot(self, sample: Sample, show_titles: bool = True, suptitle: str | None = None) -> Figure:
        """Draw a sample: the image, its mask and, if present, the "prediction".

        Args:
            sample: a sample from ``__getitem__``, optionally with "prediction", integer (H, W).
            show_titles: whether to write a title above each panel.
            suptitle: title of the whole figure.

        Returns:
            A matplotlib figure that is not registered with pyplot, so that drawing thousands does not leak memory.
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
            # IGNORE is greater than every class, so it gets the last colour.
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
        image: (C, H, W), C = 1 or 3, in any unit, NaN where missing.

    Returns:
        float32 (H, W) or (H, W, 3) in 0..1; missing values are 0, a constant band is 0.5.
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


def shape_text(shape: tuple[int | None, ...] | None) -> str:
    """Return a shape as text: "5 x 128 x 128", with N for an arbitrary length."""
    return " x ".join("N" if length is None else str(length) for length in shape or ()) or "a single value"


def _class_colours(classes: int) -> ListedColormap:
    """Return a dark background, orange-red landslides, distinct further classes, and grey for IGNORE at the end."""
    named = ["#1b1f24", "#e4572e", "#f3a712", "#4c9f70", "#5b8dd9", "#a05bb5", "#c2c95b", "#7bd1c9"]
    return ListedColormap([named[index % len(named)] for index in range(classes)] + ["#9aa0a6"])
