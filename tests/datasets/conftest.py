"""Folders of patches, written in every format, and where the real ones are."""

from __future__ import annotations

import random
from collections.abc import Callable
from itertools import zip_longest
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import h5py
import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

from tests.rasters.geotiffs import write_geotiff

REAL = Path(__file__).resolve().parents[3] / "shared" / "data" / "landslide4sense_rgb"

Write = Callable[[Path, NDArray[Any]], None]


def write_png(path: Path, values: NDArray[Any]) -> None:
    """Write (C, H, W) with 1 or 3 bands, or (H, W)."""
    flat = values if values.ndim == 2 else values[0] if len(values) == 1 else np.moveaxis(values, 0, -1)
    Image.fromarray(np.ascontiguousarray(flat)).save(path)


def write_tiff(path: Path, values: NDArray[Any], **options: Any) -> None:
    """Write (C, H, W) or (H, W); "names" and "units" go to the band descriptions."""
    named = zip_longest(options.pop("names", ()), options.pop("units", ()), fillvalue="")
    write_geotiff(path, values, names=named, **{"crs": None, "transform": None, **options})


def write_npy(path: Path, values: NDArray[Any]) -> None:
    np.save(path, values)


def write_hdf5(path: Path, values: NDArray[Any], key: str | None = None) -> None:
    """Write as Landslide4Sense does: bands last, key "img" or "mask"."""
    with h5py.File(path, "w") as file:
        file[key or ("mask" if values.ndim == 2 else "img")] = (
            values if values.ndim == 2 else np.moveaxis(values, 0, -1)
        )


WRITERS: dict[str, Write] = {".png": write_png, ".tif": write_tiff, ".npy": write_npy, ".h5": write_hdf5}


def make_patches(
    count: int, bands: int = 3, size: tuple[int, int] = (16, 16), dtype: str = "uint8", seed: int = 0
) -> tuple[NDArray[Any], NDArray[np.uint8]]:
    """Random images (N, C, H, W) and masks (N, H, W) of 0 and 1, each with some of both."""
    rng = np.random.default_rng(seed)
    if np.dtype(dtype).kind == "f":
        images = rng.normal(100, 30, (count, bands, *size)).astype(dtype)
    else:
        images = rng.integers(1, 200, (count, bands, *size)).astype(dtype)
    masks = (rng.random((count, *size)) < 0.1).astype(np.uint8)
    masks[:, 0, 0], masks[:, 0, 1] = 1, 0
    return images, masks


def write_folder(
    root: Path,
    images: NDArray[Any],
    masks: NDArray[Any],
    *,
    suffix: str = ".png",
    mask_suffix: str | None = None,
    folders: tuple[str, str] = ("images", "masks"),
    names: list[str] | None = None,
    mask_names: list[str] | None = None,
) -> Path:
    """Write images and masks into two folders below root."""
    names = names or [f"tile_{index:03d}" for index in range(len(images))]
    mask_names = mask_names or names
    for folder in folders:
        (root / folder).mkdir(parents=True, exist_ok=True)
    for name, image in zip(names, images, strict=True):
        WRITERS[suffix](root / folders[0] / f"{name}{suffix}", image)
    mask_suffix = mask_suffix or suffix
    for name, mask in zip(mask_names, masks, strict=True):
        WRITERS[mask_suffix](root / folders[1] / f"{name}{mask_suffix}", mask)
    return root


def mutate(content: bytes, seed: int) -> bytes:
    """Damage a file: a few bytes changed, inserted, removed or replaced by extreme numbers; often near the start."""
    draw = random.Random(seed)
    damaged = bytearray(content)
    for _ in range(draw.choice([1, 1, 2, 4, 8, 32])):
        place = draw.randrange(min(len(damaged), 2000) if draw.random() < 0.6 else len(damaged))
        how = draw.random()
        if how < 0.5:
            damaged[place] = draw.choice([0, 1, 0x7F, 0x80, 0xFF, draw.randrange(256)])
        elif how < 0.7:
            width = draw.choice([2, 4, 8])
            number = draw.choice([0, 2 ** (8 * width) - 1, 2 ** (8 * width - 1), 2**31, 65535, 10**9])
            damaged[place : place + width] = (number % 2 ** (8 * width)).to_bytes(width, draw.choice(["little", "big"]))
        elif how < 0.8:
            del damaged[place : place + draw.choice([1, 2, 8, 100])]
        elif how < 0.9:
            damaged[place:place] = draw.randbytes(draw.choice([1, 4, 16]))
        else:
            del damaged[place:]
        if not damaged:
            break
    return bytes(damaged)


@pytest.fixture
def real_rgb() -> Path:
    """The 1,980 Landslide4Sense tiles, or a visible skip."""
    if not REAL.is_dir():
        pytest.skip(f"no {REAL}")
    return REAL


@pytest.fixture
def real_hdf5() -> Path:
    """The folder of 14 genuine Landslide4Sense HDF5 images, or a visible skip."""
    folder = REAL.parent / "landslide4sense_h5" / "TestData" / "img"
    if not folder.is_dir():
        pytest.skip(f"no {folder}")
    return folder


@pytest.fixture(scope="session")
def disk() -> SimpleNamespace:
    """The functions above: with importlib mode a test module cannot import them."""
    return SimpleNamespace(
        make_patches=make_patches,
        mutate=mutate,
        WRITERS=WRITERS,
        write_folder=write_folder,
        write_hdf5=write_hdf5,
        write_npy=write_npy,
        write_png=write_png,
        write_tiff=write_tiff,
    )
