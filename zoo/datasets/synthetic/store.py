"""Scenes on disk: one file each, whole or not there, checked when read."""

from __future__ import annotations

import hashlib
import json
import time
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save_file

from zoo.datasets.synthetic.config import SceneConfig
from zoo.datasets.synthetic.ground import Rain
from zoo.datasets.synthetic.scene import Scene
from zoo.errors import DataError
from zoo.files import atomic_path

_STORED: Mapping[str, type[np.generic]] = {
    "image": np.float32,
    "mask": np.uint8,
    "landslide_id": np.uint16,
    "cover": np.uint8,
    # Truth for oracles; half precision is finer than any of it is known.
    "visibility": np.float16,
    "safety": np.float16,
    "wetness": np.float16,
}

_STALE = 3600.0  # seconds after which a temporary file is what a killed process left behind


@dataclass(frozen=True)
class StoredScene:
    """What is kept of a scene; arrays as in :class:`zoo.datasets.synthetic.scene.Scene`, each (..., size, size).

    Args:
        arrays: image, mask, landslide_id (uint16), cover, visibility, safety and wetness (float16).
        rain: the event's rain.
        rain_factor: R_m of equation 5.
        digest: sha256 of the arrays, hex.
    """

    arrays: Mapping[str, npt.NDArray[Any]]
    rain: Rain
    rain_factor: float
    digest: str


def scene_path(folder: Path, seed: int, config: SceneConfig) -> Path:
    """Return where the scene of a seed is kept; the name changes with the generator, the settings and the seed."""
    key = hashlib.sha256(f"{seed} {config.key()}".encode()).hexdigest()[:16]
    return folder / f"{config.region}-{config.difficulty}-{config.phase}-{seed}-{key}.safetensors"


def save_scene(path: Path, scene: Scene) -> None:
    """Write a scene, whole or not at all.

    Raises:
        ZooError: if the folder cannot be written to.
    """
    arrays = {name: np.ascontiguousarray(getattr(scene, name), dtype=kind) for name, kind in _STORED.items()}
    about = {
        "key": scene.config.key(),
        "seed": scene.seed,
        "intensity": scene.rain.intensity,
        "duration": scene.rain.duration,
        "rain_factor": scene.rain_factor,
        "sha256": _digest(arrays),
    }
    with atomic_path(path) as temporary:
        save_file(arrays, temporary, metadata={"scene": json.dumps(about)})


def load_scene(path: Path, seed: int, config: SceneConfig) -> StoredScene:
    """Read a scene and check it against its checksum.

    Raises:
        DataError: if the file is cut short, changed, or of another seed or configuration.
    """
    try:
        with safe_open(path, framework="numpy") as stored:
            about = json.loads((stored.metadata() or {})["scene"])
            arrays = {name: stored.get_tensor(name) for name in _STORED}
        if about["seed"] != seed or about["key"] != config.key():
            raise DataError("another scene than its name says", where=path)
        if about["sha256"] != _digest(arrays):
            raise DataError("the contents do not match their checksum", where=path)
        rain = Rain(float(about["intensity"]), float(about["duration"]))
        return StoredScene(arrays, rain, float(about["rain_factor"]), str(about["sha256"]))
    except (SafetensorError, KeyError, TypeError, ValueError) as error:
        raise DataError("not a whole scene file", where=path) from error


def remove_leftovers(folder: Path) -> None:
    """Delete temporary files that processes killed over an hour ago left in ``folder``."""
    for left in folder.glob(".*.safetensors"):
        with suppress(OSError):
            if time.time() - left.stat().st_mtime > _STALE:
                left.unlink()


def _digest(arrays: Mapping[str, npt.NDArray[Any]]) -> str:
    total = hashlib.sha256()
    for name in sorted(_STORED):
        array = arrays[name]
        total.update(f"{name} {array.dtype.str} {array.shape}".encode())
        total.update(np.ascontiguousarray(array).data)
    return total.hexdigest()
