"""Batches built on the device of the model: patches are kept in its memory or read on demand, and augmented there."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from zoo.datasets.augmentation import DeviceAugmentation
from zoo.datasets.base import PatchDataset, Sample

SHARE = 0.5
"""Maximum share of a GPU's free memory for a split; the rest is for the model and its activations [O]."""

Key = tuple[int, int]
"""Number of the draw and index of the patch."""


@dataclass(frozen=True)
class ResidentPatches:
    """Patches of a split in the memory of one device.

    Attributes:
        images: float32 (N, C, H, W), in the units of the bands, NaN where missing.
        masks: uint8 (N, H, W) on the same device.
        classes: copy of the masks in host memory.
    """

    images: Tensor
    masks: Tensor
    classes: NDArray[np.uint8]

    @classmethod
    def load(cls, dataset: PatchDataset, device: torch.device) -> ResidentPatches:
        """Copy a split to ``device``, patch by patch."""
        image, mask = dataset.read(0)
        images = torch.empty((len(dataset), *image.shape), dtype=torch.float32, device=device)
        classes = np.empty((len(dataset), *mask.shape), dtype=np.uint8)
        for index in range(len(dataset)):
            image, mask = dataset.read(index)
            images[index] = torch.from_numpy(image)
            classes[index] = mask
        return cls(images, torch.from_numpy(classes).to(device), classes)


def fits(dataset: PatchDataset, device: torch.device) -> bool:
    """Return whether a split can be kept on ``device``: a GPU with enough free memory, and no transforms to apply."""
    if device.type != "cuda" or dataset.transforms is not None or not len(dataset):
        return False
    image, mask = dataset.read(0)
    free, _ = torch.cuda.mem_get_info(device)
    return len(dataset) * (image.nbytes + mask.size) <= SHARE * free


class DeviceBatches(Iterable[Sample]):
    """Batches on a device, from patches that are kept there or come from a data loader; both give the same batches.

    Args:
        dataset: the split.
        device: device of the batches.
        batch_size: number of samples in a batch; the last batch may be smaller.
        draws: yields (number of the draw, index of the patch), from the start at each iteration; None for every patch
            in order.
        length: number of samples in one iteration; None for the number of patches.
        augmentation: augmentation of each patch; None for none.
        resident: the split on the device; None to read patches on demand.
        num_workers: number of processes that read patches that are not resident.
    """

    def __init__(
        self,
        dataset: PatchDataset,
        device: torch.device,
        batch_size: int,
        *,
        draws: Iterable[Key] | None = None,
        length: int | None = None,
        augmentation: DeviceAugmentation | None = None,
        resident: ResidentPatches | None = None,
        num_workers: int = 0,
    ) -> None:
        self.dataset = dataset
        self.device = device
        self.batch_size = batch_size
        self.draws = draws
        self.samples = len(dataset) if length is None else length
        self.augmentation = augmentation
        self.resident = resident
        self.num_workers = num_workers

    def __len__(self) -> int:
        """Return the number of batches."""
        return -(-self.samples // self.batch_size)

    def __iter__(self) -> Iterator[Sample]:
        """Yield ``{"image": float32 (B, C, H, W), "mask": int64 (B, H, W)}`` on the device."""
        keys = enumerate(range(len(self.dataset))) if self.draws is None else iter(self.draws)
        source = self._stream(keys) if self.resident is None else _take(self.resident, keys)
        images: list[Tensor] = []
        masks: list[Tensor] = []
        for draw, image, mask, classes in source:
            if self.augmentation is not None:
                image, mask = self.augmentation(image, mask, classes, draw)
            images.append(image)
            masks.append(mask)
            if len(images) == self.batch_size:
                yield {"image": torch.stack(images), "mask": torch.stack(masks).long()}
                images, masks = [], []
        if images:
            yield {"image": torch.stack(images), "mask": torch.stack(masks).long()}

    def _stream(self, keys: Iterator[Key]) -> Iterator[tuple[int, Tensor, Tensor, NDArray[np.uint8]]]:
        loader = DataLoader(
            _Drawn(self.dataset),
            batch_size=None,
            sampler=keys,
            num_workers=self.num_workers,
            pin_memory=self.device.type == "cuda",
        )
        for sample in loader:
            mask = sample["mask"].to(torch.uint8)
            image = sample["image"].to(self.device, non_blocking=True)
            yield sample["draw"], image, mask.to(self.device, non_blocking=True), mask.numpy()


class _Drawn(Dataset[Sample]):
    """Samples with the number of their draw, which seeds the augmentation."""

    def __init__(self, dataset: PatchDataset) -> None:
        self.dataset = dataset

    def __getitem__(self, key: Key) -> Sample:
        draw, index = key
        return {**self.dataset[index], "draw": draw}


def _take(patches: ResidentPatches, keys: Iterator[Key]) -> Iterator[tuple[int, Tensor, Tensor, NDArray[np.uint8]]]:
    for draw, index in keys:
        yield draw, patches.images[index], patches.masks[index], patches.classes[index]
