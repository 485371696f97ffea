"""Six test patches for the report: the predictions of each model, and the image and truth once for all models.

The patches are chosen only by the area of their landslides, so no model influences the choice. Predictions are stored
in the result file of the trial with one bit per pixel. Images and truth are in ``pictures/``, one file for all trials
with the same test split.
"""

from __future__ import annotations

import io
import zlib
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from zoo.bench.config import TrialConfig
from zoo.errors import ResultError
from zoo.evaluation.counts import Counts, IntArray
from zoo.files import file_name, printable
from zoo.schema import read_json, write_json

if TYPE_CHECKING:
    from collections.abc import Sequence

    from zoo.datasets.base import PatchDataset

FOLDER = "pictures"
SCHEMA = 1
QUANTILES = (0.1, 0.3, 0.5, 0.7, 0.9)
"""Quantiles of landslide area over the test patches with landslides. The sixth patch has none, to show false alarms
[O]."""
PATCHES = len(QUANTILES) + 1
MAX_IMAGE_SIDE = 512
"""Maximum side of a shown image in pixels; larger images are halved until they fit. Masks keep full resolution."""
MAX_MASK_PIXELS = 1 << 26
"""Maximum number of pixels of a mask: 8,192 x 8,192. A larger mask is rejected before decompression."""
DELETE_HINT = "Delete it; the next trial on these patches writes it again"


def choose_patches(landslide_pixels: IntArray) -> list[int]:
    """Choose patches by landslide area: quantiles of those with landslides, and the middle one of those without.

    Args:
        landslide_pixels: landslide pixels of every test patch, int64 ``(N,)``; ties keep the order of the split.

    Returns:
        At most six indices without duplicates, the largest landslide area last.
    """
    order = np.argsort(landslide_pixels, kind="stable")
    empty, filled = order[landslide_pixels[order] == 0], order[landslide_pixels[order] > 0]
    quantiles = QUANTILES if len(empty) else np.linspace(QUANTILES[0], QUANTILES[-1], PATCHES)
    places = [round(quantile * (len(filled) - 1)) for quantile in quantiles] if len(filled) else []
    chosen = [*empty[len(empty) // 2 :][:1], *filled[places]]
    return list(dict.fromkeys(int(index) for index in chosen))


@dataclass(frozen=True)
class Samples:
    """Predictions of a model on the chosen patches.

    Attributes:
        indices: indices of the patches in the test split.
        masks: predicted landslides among the counted pixels, as zlib-compressed bits.

    Raises:
        ResultError: if the numbers of masks and patches differ, or exceed six.
    """

    indices: tuple[int, ...]
    masks: tuple[bytes, ...]

    def __post_init__(self) -> None:
        if len(self.masks) != len(self.indices) or len(self.masks) > PATCHES:
            raise ResultError("its sample predictions do not fit its sample patches")

    @classmethod
    def take(cls, chosen: Sequence[int], masks: NDArray[np.uint8]) -> Samples:
        """Return the samples for the chosen patches from the masks of a whole test split.

        Args:
            chosen: indices of patches.
            masks: masks as packed bits, uint8 ``(N, ceil(H * W / 8))``.
        """
        return cls(tuple(chosen), tuple(zlib.compress(masks[index].tobytes(), 9) for index in chosen))

    def mask(self, place: int, shape: tuple[int, int]) -> NDArray[np.bool_]:
        """Return the prediction on the patch at ``indices[place]``, bool ``(H, W)``.

        Raises:
            ResultError: if it cannot be decompressed to that shape.
        """
        return _unpack(self.masks[place], shape)

    def check(self, counts: Counts, shape: tuple[int, int]) -> None:
        """Check that the predictions match the counts.

        Args:
            counts: counts of every test patch.
            shape: height and width of the patches.

        Raises:
            ResultError: if an index is outside the test split, or the number of predicted pixels of a patch differs
                from its counts.
        """
        for place, index in enumerate(self.indices):
            if not 0 <= index < len(counts):
                raise ResultError(f"shows patch {index} of a test split of {len(counts)}")
            counted, shown = int(counts.tp[index] + counts.fp[index]), int(self.mask(place, shape).sum())
            if counted != shown:
                raise ResultError(
                    f"its prediction on patch {index} does not match its counts: {shown} pixels of landslide, "
                    f"{counted} counted"
                )


@dataclass(frozen=True)
class Pictures:
    """Images and masks of the chosen patches.

    Attributes:
        indices: indices of the patches in the test split.
        names: names of the patches.
        bands: names of the bands shown: three, or one.
        shape: height and width of the masks in pixels.
        images: JPEG files for display, each patch stretched between its 2nd and 98th percentile.
        truths: landslides, as zlib-compressed bits.
        ignored: ignored pixels, as zlib-compressed bits.
        schema: version of the layout.

    Raises:
        ResultError: if the lists differ in length, or the layout has another version.
    """

    indices: tuple[int, ...]
    names: tuple[str, ...]
    bands: tuple[str, ...]
    shape: tuple[int, int]
    images: tuple[bytes, ...]
    truths: tuple[bytes, ...]
    ignored: tuple[bytes, ...]
    schema: int = SCHEMA

    def __post_init__(self) -> None:
        if self.schema != SCHEMA:
            raise ResultError(f"has schema {self.schema!r}; this version reads schema {SCHEMA}")
        lengths = {len(one) for one in (self.indices, self.names, self.images, self.truths, self.ignored)}
        if len(lengths) != 1 or lengths.pop() > PATCHES:
            raise ResultError("its lists differ in length, or hold more than six patches")

    @classmethod
    def take(cls, chosen: Sequence[int], dataset: PatchDataset) -> Pictures:
        """Read the chosen patches from a test split."""
        from zoo.datasets.base import IGNORE, stretch
        from zoo.physics.bands import display_bands

        shown = display_bands(dataset.bands)
        samples = [dataset[index] for index in chosen]
        masks = [np.asarray(sample["mask"]) for sample in samples]
        return cls(
            indices=tuple(chosen),
            names=tuple(printable(dataset.patches[index].name) for index in chosen),
            bands=tuple(dataset.bands[band].name for band in shown),
            shape=(masks[0].shape[0], masks[0].shape[1]) if masks else (0, 0),
            images=tuple(jpeg(stretch(np.asarray(sample["image"])[list(shown)])) for sample in samples),
            truths=tuple(pack((mask != 0) & (mask != IGNORE)) for mask in masks),
            ignored=tuple(pack(mask == IGNORE) for mask in masks),
        )

    def truth(self, place: int) -> NDArray[np.bool_]:
        """Return the landslides of the patch at ``indices[place]``, bool ``(H, W)``.

        Raises:
            ResultError: if they cannot be decompressed.
        """
        return _unpack(self.truths[place], self.shape)

    def ignored_pixels(self, place: int) -> NDArray[np.bool_]:
        """Return the ignored pixels of the patch at ``indices[place]``, bool ``(H, W)``.

        Raises:
            ResultError: if they cannot be decompressed.
        """
        return _unpack(self.ignored[place], self.shape)


def pictures_path(folder: Path, config: TrialConfig) -> Path:
    """Return the file with the pictures of a trial's test split; it is always directly inside ``pictures/``."""
    digest = config.fingerprints.get("test", "")[:16]
    return folder / FOLDER / f"{file_name(config.data.name)[:100]}-{file_name(digest)}.json"


def keep_pictures(folder: Path, config: TrialConfig, pictures: Pictures) -> None:
    """Write pictures, unless an earlier trial with the same patches has written them.

    Raises:
        ZooError: if the folder cannot be written to.
    """
    path = pictures_path(folder, config)
    if not path.exists():
        write_json(path, pictures)


def load_pictures(folder: Path, config: TrialConfig) -> Pictures | None:
    """Load the pictures of a trial's test split; return ``None`` if there are none.

    Raises:
        ResultError: if the file is damaged or has another schema.
    """
    path = pictures_path(folder, config)
    try:
        pictures = read_json(path, Pictures, what="picture file", hint=DELETE_HINT)
        for place in range(len(pictures.indices)):
            pictures.truth(place)
            pictures.ignored_pixels(place)
    except FileNotFoundError:
        return None
    except ResultError as error:
        raise ResultError(error.problem, where=path, hint=DELETE_HINT) from error
    return pictures


def jpeg(values: NDArray[np.float32]) -> bytes:
    """Return an image in [0, 1], float32 ``(H, W)`` or ``(H, W, 3)``, as a JPEG file."""
    from PIL import Image

    image = Image.fromarray(np.round(255 * values).astype(np.uint8))
    while max(image.size) > MAX_IMAGE_SIDE:
        image = image.reduce(2)
    stream = io.BytesIO()
    image.save(stream, "JPEG", quality=80)
    return stream.getvalue()


def pack(mask: NDArray[np.bool_]) -> bytes:
    """Return a mask as zlib-compressed bits."""
    return zlib.compress(np.packbits(mask).tobytes(), 9)


def _unpack(packed: bytes, shape: tuple[int, int]) -> NDArray[np.bool_]:
    """Decompress a mask; the patch size limits the memory, whatever the compressed data contain."""
    height, width = shape
    pixels = height * width
    if height < 0 or width < 0 or pixels > MAX_MASK_PIXELS:
        raise ResultError(f"a mask of {height} x {width} pixels is too large")
    expected = (pixels + 7) // 8
    unpacker = zlib.decompressobj()
    try:
        content = unpacker.decompress(packed, expected + 1)
    except zlib.error:
        raise ResultError("a mask cannot be unpacked") from None
    if len(content) != expected or not unpacker.eof:
        raise ResultError(f"a mask does not hold {height} x {width} pixels")
    return np.unpackbits(np.frombuffer(content, np.uint8), count=pixels).reshape(shape).astype(bool)
