"""The patches of a region that nobody has labelled, or whose labels are not to be looked at."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from zoo.datasets.base import SPLITS, Patch, PatchDataset
from zoo.datasets.folder.folder_dataset import ImageFolder
from zoo.datasets.source import DataSource
from zoo.errors import ConfigError, UnknownNameError, ZooError
from zoo.training.bundle import Bundle

FEW = 16
"""Patches below which statistics of a region are doubtful [O]."""
_BATCH = 16
_IMAGE_OPTIONS = (
    "images",
    "bands",
    "image_key",
    "layout",
    "nodata",
    "table",
    "group_column",
    "group_pattern",
    "file_column",
)
_IGNORED = {"train_groups", "val_groups", "test_groups", "split_by", "fractions", "block", "guard", "seed"}

Progress = Callable[[int, int], None]


@dataclass(frozen=True)
class Target:
    """Images of a region.

    Attributes:
        patches: where each comes from.
        read: gives image ``index``, float32 ``(C, H, W)``, in units, NaN where missing.
        about: what a bundle remembers of it, as JSON values.
        doubts: what may spoil the result, in words.
    """

    patches: tuple[Patch, ...]
    read: Callable[[int], NDArray[np.float32]]
    about: dict[str, Any]
    doubts: tuple[str, ...]

    def __len__(self) -> int:
        """Give the number of patches."""
        return len(self.patches)

    def batches(self) -> Iterator[Tensor]:
        """All images once, float32 ``(B, C, H, W)``."""
        for first in range(0, len(self), _BATCH):
            images = [self.read(index) for index in range(first, min(first + _BATCH, len(self)))]
            yield torch.from_numpy(np.stack(images))


def open_target(
    bundle: Bundle, source: DataSource, split: str = "all", groups: str | None = None, progress: Progress | None = None
) -> Target:
    """Open the patches that a bundle shall be adapted to, and compare them with those it was trained on.

    Args:
        bundle: its bands must be those of the data.
        source: where the patches come from.
        split: ``train``, ``val``, ``test``, or ``all``: every image of a folder, its masks unopened, and of another
            data set the three splits.
        groups: names of scenes, separated by commas; ``None`` for all.
        progress: called with the number of patches read and of all.

    Raises:
        ZooError: if the data are absent or damaged, have other bands, or no patch is left.
    """
    names = None if groups is None else tuple(name.strip() for name in groups.split(",") if name.strip())
    if source.name == "folder" and split == "all":
        patches, read, fingerprint = _images(bundle, source, names, progress)
    else:
        patches, read, fingerprint = _splits(bundle, source, SPLITS if split == "all" else (split,), names, progress)
    about = {**source.to_dict(), "split": split, "groups": names, "fingerprint": fingerprint}
    doubts = []
    if len(patches) < FEW:
        doubts.append(f"{len(patches)} patches say little about a region; {FEW} or more are better")
    doubts += _seen_in_training(bundle, source, patches)
    return Target(patches, read, about, tuple(doubts))


def seen_when_adapted(bundle: Bundle, source: DataSource, dataset: PatchDataset) -> int | None:
    """How many patches of a data set are among the images that a bundle was adapted to.

    Args:
        bundle: that was adapted.
        source: where the data set comes from.
        dataset: one of its splits.

    Returns:
        A number of patches; ``None`` where that cannot be told, because the images are elsewhere or have changed.
    """
    target = (bundle.adaptation or {}).get("target", {})
    fingerprint = target.get("fingerprint")
    if fingerprint is not None and fingerprint == dataset.fingerprint():
        return len(dataset)
    own = DataSource(target.get("name", ""), target.get("options", {}))
    if fingerprint is None or (own.name, own.options.get("root")) != (source.name, source.options.get("root")):
        return None
    try:
        patches = _patches_of(bundle, own, target)
    except ZooError:
        return None
    if patches is None:
        return None
    # The images of a folder have one name each, whatever the options say of their scenes.
    by_name = own.name == "folder"
    seen = {("" if by_name else patch.group, patch.name) for patch in patches}
    return sum(("" if by_name else patch.group, patch.name) in seen for patch in dataset.patches)


def _patches_of(bundle: Bundle, own: DataSource, target: dict[str, Any]) -> Sequence[Patch] | None:
    """The patches of a recorded target, opened again; ``None`` when they are others now."""
    split, groups = target.get("split", "all"), target.get("groups")
    opened = open_target(bundle, own, split, None if groups is None else ",".join(groups))
    if opened.about["fingerprint"] == target["fingerprint"]:
        return opened.patches
    if split in SPLITS and (dataset := own.open(split)).fingerprint() == target["fingerprint"]:
        return dataset.patches
    return None


def _images(
    bundle: Bundle, source: DataSource, groups: Sequence[str] | None, progress: Progress | None
) -> tuple[tuple[Patch, ...], Callable[[int], NDArray[np.float32]], str]:
    options = {name: value for name, value in source.options.items() if name in _IMAGE_OPTIONS}
    unfit = sorted(set(source.options) & _IGNORED)
    if unfit and groups is None:
        raise ConfigError(
            f"{unfit[0]} chooses a split, and every patch of the folder is asked for",
            where=source.label,
            hint="Add --split test (or train, val), or choose scenes with --groups",
        )
    folder = ImageFolder(
        source.options["root"], channels=len(bundle.bands), groups=groups, progress=progress, **options
    )
    bundle.check_bands(folder.bands, source.label)
    return folder.patches, folder.read, folder.fingerprint()


def _splits(
    bundle: Bundle,
    source: DataSource,
    splits: Sequence[str],
    groups: Sequence[str] | None,
    progress: Progress | None,
) -> tuple[tuple[Patch, ...], Callable[[int], NDArray[np.float32]], str]:
    opened = [source.open(split, progress) for split in splits]
    for dataset in opened:
        bundle.check_bands(dataset.bands, source.label)
    known = {patch.group for dataset in opened for patch in dataset.patches}
    for group in groups or ():
        if group not in known:
            raise UnknownNameError("group", group, known, where="option groups")
    places: list[tuple[PatchDataset, int]] = [
        (dataset, index)
        for dataset in opened
        for index, patch in enumerate(dataset.patches)
        if groups is None or patch.group in groups
    ]
    content = "".join(dataset.fingerprint() for dataset in opened) + repr(groups)

    def read(index: int) -> NDArray[np.float32]:
        dataset, place = places[index]
        return dataset.read(place)[0]

    patches = tuple(dataset.patches[index] for dataset, index in places)
    return patches, read, hashlib.sha256(content.encode()).hexdigest()


def _seen_in_training(bundle: Bundle, source: DataSource, patches: Sequence[Patch]) -> list[str]:
    """Whether the target holds patches that the bundle was trained on, where that can be told."""
    trained_on = DataSource(bundle.data.get("name", ""), bundle.data.get("options", {}))
    if (trained_on.name, trained_on.options.get("root")) != (source.name, source.options.get("root")):
        return []
    try:
        train = trained_on.open("train")
    except ZooError:
        return []
    if train.fingerprint() != bundle.data.get("fingerprints", {}).get("train"):
        return []
    own = {(patch.group, patch.name) for patch in train.patches}
    shared = sum((patch.group, patch.name) in own for patch in patches)
    if not shared:
        return []
    return [f"{shared} of {len(patches)} patches of the target are those that the model was trained on"]
