"""Unlabelled patches for adaptation: their source, and a sample that fits into memory."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from zoo.datasets.base import SPLITS, Patch, PatchDataset
from zoo.datasets.folder.folder_dataset import ImageFolder
from zoo.datasets.source import DataSource
from zoo.errors import ConfigError, UnknownNameError, ZooError
from zoo.jobs import ProgressCallback
from zoo.training.bundle import Bundle
from zoo.training.bundle_layout import AdaptationTarget

MIN_PATCHES = 16
"""Minimum number of patches for reliable statistics [O]."""
BATCH_SIZE = 16
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
_SPLIT_OPTIONS = {"train_groups", "val_groups", "test_groups", "split_by", "fractions", "block", "guard", "seed"}


@dataclass(frozen=True)
class TargetPatches:
    """Images of a region, without their masks.

    Attributes:
        patches: name, scene and location of each patch.
        read: returns image ``index``, float32 ``(C, H, W)``, in units, NaN where missing.
        record: record of the region for the adapted bundle.
        warnings: reasons why the result may be unreliable, as sentences.
    """

    patches: tuple[Patch, ...]
    read: Callable[[int], NDArray[np.float32]]
    record: AdaptationTarget
    warnings: tuple[str, ...]

    def __len__(self) -> int:
        """Return the number of patches."""
        return len(self.patches)

    def batches(self) -> Iterator[Tensor]:
        """Yield all images once, in batches of float32 ``(B, C, H, W)``."""
        for first in range(0, len(self), BATCH_SIZE):
            images = [self.read(index) for index in range(first, min(first + BATCH_SIZE, len(self)))]
            yield torch.from_numpy(np.stack(images))


def open_target(
    bundle: Bundle,
    source: DataSource,
    split: str = "all",
    groups: Sequence[str] | None = None,
    progress: ProgressCallback | None = None,
) -> TargetPatches:
    """Open the patches for adaptation and compare them with the training patches of the bundle.

    Args:
        bundle: a trained model; the data must have its bands.
        source: data set of the patches.
        split: ``train``, ``val``, ``test`` or ``all``. ``all`` uses every image of a folder without opening its
            masks, or the three splits of another data set.
        groups: scenes or events to use; ``None`` for all.
        progress: called with the number of patches read and the total.

    Raises:
        ZooError: if the data are missing or damaged, have other bands, or no patch is left.
    """
    names = None if groups is None else tuple(groups)
    if source.name == "folder" and split == "all":
        patches, read, fingerprint = _all_images(bundle, source, names, progress)
    else:
        splits = SPLITS if split == "all" else (split,)
        patches, read, fingerprint = _images_of_splits(bundle, source, splits, names, progress)
    record = AdaptationTarget(source.name, source.options, split, names, fingerprint=fingerprint)
    warnings = []
    if len(patches) < MIN_PATCHES:
        warnings.append(f"the target has {len(patches)} patches; use {MIN_PATCHES} or more for reliable statistics")
    warnings += _leakage_warning(bundle, source, patches)
    return TargetPatches(patches, read, record, tuple(warnings))


def count_adapted_patches(bundle: Bundle, source: DataSource, dataset: PatchDataset) -> int | None:
    """Return the number of patches of a data set that are among the images that a bundle was adapted to.

    Args:
        bundle: an adapted bundle.
        source: source of the data set.
        dataset: one of its splits.

    Returns:
        The number of patches; ``None`` if it is unknown, because the images were moved or have changed.
    """
    target = AdaptationTarget() if bundle.adaptation is None else bundle.adaptation.target
    if target.fingerprint is not None and target.fingerprint == dataset.fingerprint():
        return len(dataset)
    same_place = (target.name, target.options.get("root")) == (source.name, source.options.get("root"))
    if target.fingerprint is None or not same_place:
        return None
    try:
        patches = _recorded_patches(bundle, target)
    except ZooError:
        return None
    if patches is None:
        return None
    # An image of a folder always has the same name, whatever the options specify as its scene.
    by_name = target.name == "folder"
    adapted = {("" if by_name else patch.group, patch.name) for patch in patches}
    return sum(("" if by_name else patch.group, patch.name) in adapted for patch in dataset.patches)


def _recorded_patches(bundle: Bundle, target: AdaptationTarget) -> Sequence[Patch] | None:
    """Open a recorded target again and return its patches; ``None`` if they have changed."""
    own, split = DataSource(target.name, target.options), target.split or "all"
    opened = open_target(bundle, own, split, target.groups)
    if opened.record.fingerprint == target.fingerprint:
        return opened.patches
    if split in SPLITS and (dataset := own.open(split)).fingerprint() == target.fingerprint:
        return dataset.patches
    return None


_Opened = tuple[tuple[Patch, ...], Callable[[int], NDArray[np.float32]], str]


def _all_images(
    bundle: Bundle, source: DataSource, groups: Sequence[str] | None, progress: ProgressCallback | None
) -> _Opened:
    options = {name: value for name, value in source.options.items() if name in _IMAGE_OPTIONS}
    unfit = sorted(set(source.options) & _SPLIT_OPTIONS)
    if unfit and groups is None:
        raise ConfigError(
            f"{unfit[0]} chooses a split, but every patch of the folder is used",
            where=source.label,
            hint="Add --split test (or train, val), or choose scenes with --groups",
        )
    folder = ImageFolder(
        source.options["root"], channels=len(bundle.bands), groups=groups, progress=progress, **options
    )
    bundle.check_bands(folder.bands, source.label)
    return folder.patches, folder.read, folder.fingerprint()


def _images_of_splits(
    bundle: Bundle,
    source: DataSource,
    splits: Sequence[str],
    groups: Sequence[str] | None,
    progress: ProgressCallback | None,
) -> _Opened:
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


def _leakage_warning(bundle: Bundle, source: DataSource, patches: Sequence[Patch]) -> list[str]:
    """Return a warning if the bundle was trained on patches of the target; ``None`` if that is unknown."""
    training = bundle.data.source
    if training is None or training.name != source.name or training.options.get("root") != source.options.get("root"):
        return []
    try:
        train = training.open("train")
    except ZooError:
        return []
    if train.fingerprint() != bundle.data.fingerprints.get("train"):
        return []
    own = {(patch.group, patch.name) for patch in train.patches}
    shared = sum((patch.group, patch.name) in own for patch in patches)
    return [f"the model was trained on {shared} of the {len(patches)} patches of the target"] if shared else []
