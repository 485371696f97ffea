"""Six test patches to look at: what each model predicts there, and once for all models the image and the truth.

The patches are chosen by the area of their landslides alone, so that no model chooses its own. Predictions are a bit a
pixel in the result file of the trial; image and truth are in ``pictures/``, one file for all trials on the same test
split.
"""

from __future__ import annotations

import base64
import binascii
import io
import json
import zlib
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from zoo.bench.config import TrialConfig
from zoo.errors import ResultError
from zoo.evaluation.counts import Counts, IntArray
from zoo.files import write_json_atomic

if TYPE_CHECKING:
    from collections.abc import Sequence

    from zoo.datasets.base import PatchDataset

FOLDER = "pictures"
SCHEMA = 1
QUANTILES = (0.1, 0.3, 0.5, 0.7, 0.9)
"""Of landslide area over the test patches that have one; the sixth patch has none, to show false alarms [O]."""
PATCHES = len(QUANTILES) + 1
LARGEST_EDGE = 512
"""Pixels of an image that is shown; larger ones are halved until they fit. Masks keep every pixel."""


def choose_patches(landslide_pixels: IntArray) -> list[int]:
    """Choose patches by landslide area: the quantiles of those with a landslide, and the middle one of those without.

    Args:
        landslide_pixels: of every test patch, int64 ``(N,)``; equal areas stay in the order of the split.

    Returns:
        At most six indices, each once, the largest landslide area last.
    """
    order = np.argsort(landslide_pixels, kind="stable")
    empty, filled = order[landslide_pixels[order] == 0], order[landslide_pixels[order] > 0]
    quantiles = QUANTILES if len(empty) else np.linspace(QUANTILES[0], QUANTILES[-1], PATCHES)
    places = [round(quantile * (len(filled) - 1)) for quantile in quantiles] if len(filled) else []
    chosen = [*empty[len(empty) // 2 :][:1], *filled[places]]
    return list(dict.fromkeys(int(index) for index in chosen))


@dataclass(frozen=True)
class Samples:
    """What a model predicts on the chosen patches.

    Attributes:
        indices: of the patches in the test split.
        masks: predicted landslide among the pixels that count, as packed bits, uint8 ``(patches, H * W / 8)``.
    """

    indices: tuple[int, ...]
    masks: NDArray[np.uint8]

    @classmethod
    def take(cls, chosen: Sequence[int], masks: NDArray[np.uint8]) -> Samples:
        """The chosen of the masks of a whole test split."""
        return cls(tuple(chosen), masks[list(chosen)])

    def mask(self, place: int, shape: tuple[int, int]) -> NDArray[np.bool_]:
        """The prediction on the patch at ``indices[place]``, bool ``(H, W)``."""
        return _unpacked(self.masks[place].tobytes(), shape)

    def check(self, counts: Counts) -> None:
        """Refuse predictions that are not those that were counted.

        Raises:
            ResultError: if a patch is none of the test split's, or has more or fewer predicted pixels than its counts.
        """
        for index, mask in zip(self.indices, self.masks, strict=True):
            if not 0 <= index < len(counts):
                raise ResultError(f"shows patch {index} of a test split of {len(counts)}")
            counted, shown = int(counts.tp[index] + counts.fp[index]), int(np.unpackbits(mask).sum())
            if counted != shown:
                raise ResultError(
                    f"its prediction on patch {index} does not add up: {shown} pixels of landslide, {counted} counted"
                )

    def to_dict(self) -> dict[str, Any]:
        """Plain JSON values: masks as base64 of zlib of their bits."""
        return {
            "indices": list(self.indices),
            "masks": [_text(zlib.compress(mask.tobytes(), 9)) for mask in self.masks],
        }

    @classmethod
    def from_dict(cls, values: dict[str, Any]) -> Samples:
        """The inverse of :meth:`to_dict`.

        Raises:
            ResultError: if a mask cannot be unpacked, or there is not one for each patch.
        """
        masks = [_inflated(text) for text in values["masks"]]
        if len(masks) != len(values["indices"]) or len({len(mask) for mask in masks}) > 1:
            raise ResultError("its sample predictions do not fit its sample patches")
        packed = np.array([list(mask) for mask in masks], dtype=np.uint8)
        return cls(tuple(map(int, values["indices"])), packed)


@dataclass(frozen=True)
class Pictures:
    """The chosen patches themselves.

    Attributes:
        indices: of the patches in the test split.
        names: of the patches.
        bands: names of the bands that are shown: three, or one.
        shape: height and width of the masks in pixels.
        images: JPEG files, stretched between the 2nd and 98th percentile of each patch, for display alone.
        truths: landslide, bool ``(H, W)`` each.
        ignored: pixels that count nowhere, likewise.
    """

    indices: tuple[int, ...]
    names: tuple[str, ...]
    bands: tuple[str, ...]
    shape: tuple[int, int]
    images: tuple[bytes, ...]
    truths: tuple[NDArray[np.bool_], ...]
    ignored: tuple[NDArray[np.bool_], ...]

    @classmethod
    def take(cls, chosen: Sequence[int], dataset: PatchDataset) -> Pictures:
        """Read the chosen patches of a test split."""
        from zoo.datasets.base import IGNORE, stretch
        from zoo.physics.bands import display_bands

        shown = display_bands(dataset.bands)
        samples = [dataset[index] for index in chosen]
        masks = [np.asarray(sample["mask"]) for sample in samples]
        return cls(
            indices=tuple(chosen),
            names=tuple(dataset.patches[index].name for index in chosen),
            bands=tuple(dataset.bands[band].name for band in shown),
            shape=(masks[0].shape[0], masks[0].shape[1]) if masks else (0, 0),
            images=tuple(jpeg(stretch(np.asarray(sample["image"])[list(shown)])) for sample in samples),
            truths=tuple((mask != 0) & (mask != IGNORE) for mask in masks),
            ignored=tuple(mask == IGNORE for mask in masks),
        )

    def to_dict(self) -> dict[str, Any]:
        """Plain JSON values."""
        return {
            "indices": list(self.indices),
            "names": list(self.names),
            "bands": list(self.bands),
            "shape": list(self.shape),
            "images": [_text(image) for image in self.images],
            "truths": [_packed(truth) for truth in self.truths],
            "ignored": [_packed(ignored) for ignored in self.ignored],
        }

    @classmethod
    def from_dict(cls, values: dict[str, Any]) -> Pictures:
        """The inverse of :meth:`to_dict`.

        Raises:
            ResultError: if lists differ in length, or something cannot be unpacked.
        """
        height, width = (int(edge) for edge in values["shape"])
        lists = [values[name] for name in ("indices", "names", "images", "truths", "ignored")]
        if len({len(one) for one in lists}) != 1:
            raise ResultError("its lists differ in length")
        return cls(
            indices=tuple(map(int, values["indices"])),
            names=tuple(map(str, values["names"])),
            bands=tuple(map(str, values["bands"])),
            shape=(height, width),
            images=tuple(_bytes(text) for text in values["images"]),
            truths=tuple(_unpacked(_inflated(text), (height, width)) for text in values["truths"]),
            ignored=tuple(_unpacked(_inflated(text), (height, width)) for text in values["ignored"]),
        )


def pictures_path(folder: Path, config: TrialConfig) -> Path:
    """Where the pictures of a trial's test split are kept."""
    return folder / FOLDER / f"{config.data.name}-{config.fingerprints.get('test', '')[:16]}.json"


def keep_pictures(folder: Path, config: TrialConfig, pictures: dict[str, Any]) -> None:
    """Write pictures as :meth:`Pictures.to_dict` gives them, unless an earlier trial on the same patches did.

    Raises:
        ZooError: if the folder cannot be written to.
    """
    path = pictures_path(folder, config)
    if not path.exists():
        write_json_atomic(path, {"schema": SCHEMA, **pictures})


def load_pictures(folder: Path, config: TrialConfig) -> Pictures | None:
    """Read the pictures of a trial's test split; ``None`` where there are none.

    Raises:
        ResultError: if the file is damaged or of another schema.
    """
    path = pictures_path(folder, config)
    try:
        values = json.loads(path.read_text(encoding="utf-8"))
        if values["schema"] != SCHEMA:
            raise ResultError(f"has schema {values['schema']!r}, and this version reads schema {SCHEMA}")
        return Pictures.from_dict(values)
    except FileNotFoundError:
        return None
    except (OSError, ValueError, KeyError, TypeError, ResultError) as error:
        problem = error.problem if isinstance(error, ResultError) else f"{type(error).__name__}: {error}"
        raise ResultError(
            f"is damaged: {problem}", where=path, hint="Delete it; the next trial on these patches writes it again"
        ) from error


def jpeg(values: NDArray[np.float32]) -> bytes:
    """An image in [0, 1], float32 ``(H, W)`` or ``(H, W, 3)``, as a JPEG file."""
    from PIL import Image

    image = Image.fromarray(np.round(255 * values).astype(np.uint8))
    while max(image.size) > LARGEST_EDGE:
        image = image.reduce(2)
    stream = io.BytesIO()
    image.save(stream, "JPEG", quality=80)
    return stream.getvalue()


def _packed(mask: NDArray[np.bool_]) -> str:
    return _text(zlib.compress(np.packbits(mask).tobytes(), 9))


def _unpacked(packed: bytes, shape: tuple[int, int]) -> NDArray[np.bool_]:
    bits = np.unpackbits(np.frombuffer(packed, np.uint8))
    pixels = shape[0] * shape[1]
    if not pixels <= len(bits) < pixels + 8:
        raise ResultError(f"a mask of {len(bits)} bits is none of {shape[0]} x {shape[1]} pixels")
    return bits[:pixels].reshape(shape).astype(bool)


def _text(content: bytes) -> str:
    return base64.b64encode(content).decode("ascii")


def _bytes(text: str) -> bytes:
    try:
        return base64.b64decode(text, validate=True)
    except (binascii.Error, ValueError):
        raise ResultError("a picture is no base64") from None


LARGEST_MASK = 1 << 26
"""Bytes that a mask may unpack to: 23,000 pixels square."""


def _inflated(text: str) -> bytes:
    unpack = zlib.decompressobj()
    try:
        content = unpack.decompress(_bytes(text), LARGEST_MASK)
    except zlib.error:
        raise ResultError("a mask cannot be unpacked") from None
    if not unpack.eof:
        raise ResultError("a mask is cut short, or too large")
    return content
