"""Torch data set of synthetic landslide scenes."""

from __future__ import annotations

import hashlib
import os
from pathlib import Path
from typing import Any, ClassVar, Literal

import numpy as np
from matplotlib.figure import Figure
from numpy.typing import NDArray

from zoo.datasets.arguments import checked_options
from zoo.datasets.base import Patch, PatchDataset, Sample, Transform
from zoo.datasets.builtin import SYNTHETIC
from zoo.datasets.synthetic.landslides import Rain
from zoo.datasets.synthetic.scene import REGIONS, SceneConfig
from zoo.datasets.synthetic.scene_store import StoredScene, obtain_scenes
from zoo.errors import ConfigError
from zoo.files import cache_folder
from zoo.jobs import ProgressCallback
from zoo.physics import CHANGE_CHANNELS, PAPER_CHANNELS, hillshade

PATCH = 128
"""Side of a patch in pixels [P]."""

ALL_REGIONS = "all"

_MAX_SCENES = 10_000


class Synthetic(PatchDataset):
    """Synthetic landslide scenes, generated on this machine from physics and a seed.

    Rivers shape the terrain, rain saturates the soil, and slopes with a factor of safety below one fail and leave scars
    along the flow path. A simulated sensor similar to Sentinel-2 adds illumination, blur, noise and haze. Use this data
    set to check software, not to compare architectures: its scores do not apply to real landslides.

    Dataset features:

    * 20 scenes of 512x512 pixels at 10 m by default, cut into 320 patches of 128x128
    * seven channels with units: SMI, NDBI, NDVI, NDWI, slope (degree), DEM (m) and LSI; ten with ``phase="both"``
    * rain of a different intensity and duration in every scene, which determines how much ground fails
    * bare fields, rock, clear-cuts, roads, gravel bars and unlabelled old scars that look like landslides
    * 15-20 % of the outlines are shifted by one pixel, as in inventories drawn by hand
    * ground truth of each patch: landslide numbers, factor of safety, wetness, visibility, land cover

    Dataset format:

    * images are float32 (7, 128, 128), or (10, 128, 128) with two dates
    * masks are int64 (128, 128) with 1 for a landslide of the event
    * the split is by scene, 6:2:2, so that splits share no ground

    Dataset classes:

    0. background
    1. landslide

    If you use this data set, cite the software.
    """

    bands = PAPER_CHANNELS
    class_names = ("background", "landslide")
    citation: ClassVar[str] = SYNTHETIC.citation
    licence = SYNTHETIC.licence

    @checked_options
    def __init__(
        self,
        root: str | os.PathLike[str] | None = None,
        split: str = "train",
        transforms: Transform | None = None,
        *,
        scenes: int = 20,
        seed: int = 0,
        phase: Literal["post", "pre", "both"] = "post",
        region: Literal["subtropical", "tropical", "dryland", "alpine", "all"] = "subtropical",
        test_region: Literal["subtropical", "tropical", "dryland", "alpine"] | None = None,
        difficulty: Literal["easy", "default", "hard"] = "default",
        workers: int | None = None,
        progress: ProgressCallback | None = None,
    ) -> None:
        """Open one split and generate the scenes that are not in the cache yet.

        Args:
            root: folder of the cached scenes; by default ``$ZOO_CACHE/synthetic`` or the user's cache folder.
            split: "train", "val" or "test".
            transforms: transform that is applied to every sample.
            scenes: number of scenes of all splits together, 3 to 10,000; each has 16 patches of 128 x 128 pixels.
            seed: random seed; the same seed gives the same bytes, and scenes of different seeds share nothing.
            phase: whether images show the ground after the landslides or before; both adds the differences dNDBI, dNDVI
                and dNDWI of two dates to the channels of post. Results of different phases are not comparable.
            region: climate and relief; all uses each region in turn.
            test_region: with region=all, the region of the test split; train and val show the others.
            difficulty: how well landslides stand out.
            workers: number of processes that generate scenes; one per core by default.
            progress: called with the number of scenes generated and the total.

        Raises:
            UnknownNameError: if the split does not exist.
            ConfigError: if an option is out of range, or test_region is given without region=all.
            ZooError: if scenes must be generated and the folder cannot be written to.
        """
        if test_region is not None and region != ALL_REGIONS:
            raise ConfigError(
                f"a test region ({test_region!r}) needs all regions",
                where="option test_region",
                hint="Give region=all",
            )
        if not 3 <= scenes <= _MAX_SCENES:
            raise ConfigError(
                f"scenes must be from 3 to {_MAX_SCENES}, not {scenes}",
                where="option scenes",
                hint="Each split needs at least one scene",
            )
        if not 0 <= seed < 2**48:
            raise ConfigError(f"seed must be from 0 to 2**48 - 1, not {seed}", where="option seed")
        if workers is not None and workers < 1:
            raise ConfigError(f"workers must be at least 1, not {workers}", where="option workers")
        self.root = cache_folder("synthetic") if root is None else Path(root)
        self.split = split
        self.transforms = transforms
        self.phase = phase
        self.bands = PAPER_CHANNELS if phase != "both" else (*PAPER_CHANNELS, *CHANGE_CHANNELS[:3])
        names = list(REGIONS) if region == ALL_REGIONS else [region]
        if test_region is not None:
            names = [name for name in names if (name == test_region) is (split == "test")]
        configs = [SceneConfig(phase=phase, region=name, difficulty=difficulty) for name in names]
        self.pixel_size = configs[0].pixel_size
        # The regions alternate within a split, so that every split contains all regions.
        self._jobs = [
            (seed * _MAX_SCENES + number, configs[turn % len(configs)])
            for turn, number in enumerate(split_scenes(scenes, split))
        ]
        self._workers, self._progress = workers, progress
        self._scenes: list[StoredScene] = []
        self._verify()
        side = configs[0].size // PATCH
        self._side = side
        self.patches = tuple(
            Patch(name=f"{name}-{row}-{col}", group=name, row=row, col=col)
            for name in (f"{config.region}-{config.phase}-{number}" for number, config in self._jobs)
            for row in range(side)
            for col in range(side)
        )

    def _verify(self) -> None:
        self._scenes = obtain_scenes(self.root, self._jobs, self._workers, self._progress)

    def read(self, index: int) -> tuple[NDArray[np.float32], NDArray[np.integer[Any]]]:
        """Return copies of the image, float32 (C, 128, 128), and the mask, uint8 (128, 128), of a patch."""
        scene, window = self._window(index)
        return scene.arrays["image"][(slice(None), *window)].copy(), scene.arrays["mask"][window].copy()

    def truth(self, index: int) -> dict[str, NDArray[Any]]:
        """Return the ground truth of a patch, each array (128, 128).

        Args:
            index: index into ``patches``.

        Returns:
            By name: landslide_id (uint16, true outlines, 0 for none), visibility, safety and wetness (float16), cover
            (uint8).
        """
        scene, window = self._window(index)
        return {name: array[window].copy() for name, array in scene.arrays.items() if name not in ("image", "mask")}

    def rain(self, index: int) -> tuple[Rain, float]:
        """Return the rain (mm/h, days) and the rainfall factor R_m of the scene of a patch."""
        scene, _ = self._window(index)
        return scene.rain, scene.rain_factor

    def fingerprint(self) -> str:
        """Return the SHA-256 of the split: name, settings, seeds and every pixel of its scenes."""
        total = hashlib.sha256(f"synthetic {self.split}".encode())
        for (number, config), scene in zip(self._jobs, self._scenes, strict=True):
            total.update(f"{number} {config.key()} {scene.digest}".encode())
        return total.hexdigest()

    def plot(self, sample: Sample, show_titles: bool = True, suptitle: str | None = None) -> Figure:
        """Draw the relief, NDVI, LSI, the mask and, if the sample has one, the prediction.

        Args:
            sample: a sample from ``__getitem__``, optionally with "prediction", integer (H, W).
            show_titles: whether each panel has a title.
            suptitle: title of the whole figure.
        """
        image = sample["image"].detach().cpu().numpy()
        channel = {band.name: image[position] for position, band in enumerate(self.bands)}
        panels: list[tuple[str, NDArray[Any], str, float | None, float | None]] = [
            ("relief", hillshade(channel["DEM"], self.pixel_size or 10.0), "gray", 0.0, 1.0),
            ("NDVI", channel["NDVI"], "RdYlGn", 0.0, 0.9),
            ("LSI", channel["LSI"], "magma", None, None),
            ("mask", sample["mask"].detach().cpu().numpy(), "gray", 0, 1),
        ]
        if "prediction" in sample:
            panels.append(("prediction", sample["prediction"].detach().cpu().numpy(), "gray", 0, 1))
        figure = Figure(figsize=(3.2 * len(panels), 3.6), layout="constrained")
        for ax, (title, values, colours, low, high) in zip(figure.subplots(1, len(panels)), panels, strict=True):
            ax.imshow(values, cmap=colours, vmin=low, vmax=high, interpolation="nearest")
            ax.set_axis_off()
            if show_titles:
                ax.set_title(title)
        if suptitle is not None:
            figure.suptitle(suptitle)
        return figure

    def _window(self, index: int) -> tuple[StoredScene, tuple[slice, slice]]:
        number, rest = divmod(index, self._side**2)
        row, col = divmod(rest, self._side)
        return self._scenes[number], (
            slice(row * PATCH, (row + 1) * PATCH),
            slice(col * PATCH, (col + 1) * PATCH),
        )


def split_scenes(scenes: int, split: str) -> range:
    """Return the scene numbers of a split; the splits are 6:2:2 with at least one scene each."""
    held_out = max(1, round(scenes * 0.2))
    train = scenes - 2 * held_out
    return {
        "train": range(train),
        "val": range(train, train + held_out),
        "test": range(train + held_out, scenes),
    }[split]
