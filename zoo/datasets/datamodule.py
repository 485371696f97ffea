"""Batches for training and evaluation, identical for every model and for any number of workers."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import torch
from lightning.pytorch import LightningDataModule
from numpy.typing import NDArray
from torch import Tensor
from torch.utils.data import DataLoader, Dataset, Sampler

from zoo.datasets.augmentation import DeviceAugmentation, TrainingAugmentation
from zoo.datasets.base import PatchDataset, Sample
from zoo.datasets.statistics import Statistics, compute_statistics
from zoo.errors import ConfigError

MAX_MEMORY_SHARE = 0.5
"""Maximum share of a GPU's free memory for a split; the rest is for the model and its activations [O]."""

Key = tuple[int, int]
"""Number of the draw and index of the patch."""


class Draws(Sampler[Key]):
    """Endless shuffle, without replacement within each pass over the patches, cut into epochs.

    Draw d gives patch p_k[d mod n], where p_k is the permutation of pass k = d div n. With ``weights``, p_k is instead
    a random sample with replacement. A draw does not depend on earlier draws, so training can be resumed at any draw.

    Args:
        patches: number of patches, n.
        draws: number of draws in one iteration; the next iteration continues after them.
        seed: random seed of the permutations.
        start: number of the first draw.
        weights: relative probability of each patch; None for equal probabilities.
    """

    def __init__(
        self, patches: int, draws: int, seed: int = 0, start: int = 0, weights: NDArray[np.float64] | None = None
    ) -> None:
        self.patches = patches
        self.draws = draws
        self.seed = seed
        self.start = start
        self.probabilities = None if weights is None else weights / weights.sum()

    def __len__(self) -> int:
        """Return the number of draws in one iteration."""
        return self.draws

    def __iter__(self) -> Iterator[Key]:
        """Yield (number of the draw, index of the patch)."""
        first = self.start
        self.start += self.draws
        order: list[int] = []
        drawn_pass = -1
        for draw in range(first, first + self.draws):
            number, position = divmod(draw, self.patches)
            if number != drawn_pass:
                drawn_pass = number
                generator = np.random.default_rng((self.seed, number))
                if self.probabilities is None:
                    order = generator.permutation(self.patches).tolist()
                else:
                    order = generator.choice(self.patches, self.patches, p=self.probabilities).tolist()
            yield draw, order[position]


class GroupDraws(Draws):
    """Endless stream of batches, each with patches of one group, like a region that a model is adapted to.

    Batch normalisation then sees the statistics of one scene or event at a time, as after
    :func:`zoo.training.adaptation.adapt`. Batch b depends only on the seed and b. Its patches are distinct, unless the
    group is smaller than a batch.

    Args:
        groups: group of each patch.
        draws: number of draws in one iteration, a multiple of ``batch_size``; the next iteration continues after them.
        batch_size: number of patches in a batch.
        seed: random seed.
        start: number of the first draw, a multiple of ``batch_size``.
        balance: a group of n patches is drawn in proportion to ``n ** (1 - balance)``.
    """

    def __init__(
        self, groups: Sequence[str], draws: int, batch_size: int, *, seed: int = 0, start: int = 0, balance: float = 0.0
    ) -> None:
        super().__init__(len(groups), draws, seed, start)
        self.batch_size = batch_size
        self.members = [np.flatnonzero(np.array(groups) == name) for name in sorted(set(groups))]
        weights = np.array([float(len(indices)) ** (1 - balance) for indices in self.members])
        self.probabilities = weights / weights.sum()

    def __iter__(self) -> Iterator[Key]:
        """Yield (number of the draw, index of the patch)."""
        first = self.start
        self.start += self.draws
        for batch in range(first // self.batch_size, (first + self.draws) // self.batch_size):
            generator = np.random.default_rng((self.seed, batch))
            group = self.members[generator.choice(len(self.members), p=self.probabilities)]
            chosen = generator.choice(group, self.batch_size, replace=len(group) < self.batch_size)
            yield from zip(range(batch * self.batch_size, (batch + 1) * self.batch_size), chosen.tolist(), strict=True)


class _AugmentedDraws(Dataset[Sample]):
    """Data set indexed by (draw, index) and augmented according to the number of the draw."""

    def __init__(self, dataset: PatchDataset, augmentation: TrainingAugmentation | None) -> None:
        self.dataset = dataset
        self.augmentation = augmentation

    def __getitem__(self, key: Key) -> Sample:
        draw, index = key
        sample = self.dataset[index]
        return sample if self.augmentation is None else self.augmentation(sample, draw)


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


def fits_on_device(dataset: PatchDataset, device: torch.device) -> bool:
    """Return whether a split can be kept on ``device``: a GPU with enough free memory, and no transforms to apply."""
    if device.type != "cuda" or dataset.transforms is not None or not len(dataset):
        return False
    image, mask = dataset.read(0)
    free, _ = torch.cuda.mem_get_info(device)
    return len(dataset) * (image.nbytes + mask.size) <= MAX_MEMORY_SHARE * free


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
        source = self._stream(keys) if self.resident is None else _resident_samples(self.resident, keys)
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
            _NumberedDraws(self.dataset),
            batch_size=None,
            sampler=keys,
            num_workers=self.num_workers,
            pin_memory=self.device.type == "cuda",
        )
        for sample in loader:
            mask = sample["mask"].to(torch.uint8)
            image = sample["image"].to(self.device, non_blocking=True)
            yield sample["draw"], image, mask.to(self.device, non_blocking=True), mask.numpy()


class _NumberedDraws(Dataset[Sample]):
    """Samples with the number of their draw, which seeds the augmentation."""

    def __init__(self, dataset: PatchDataset) -> None:
        self.dataset = dataset

    def __getitem__(self, key: Key) -> Sample:
        draw, index = key
        return {**self.dataset[index], "draw": draw}


def _resident_samples(
    patches: ResidentPatches, keys: Iterator[Key]
) -> Iterator[tuple[int, Tensor, Tensor, NDArray[np.uint8]]]:
    for draw, index in keys:
        yield draw, patches.images[index], patches.masks[index], patches.classes[index]


class PatchDataModule(LightningDataModule):
    """Training, validation and test batches of a data set.

    Training has exactly ``steps`` full batches per epoch, for any number of patches, so that every model takes the same
    optimiser steps and batch normalisation never gets a short batch. Validation and test contain every patch once,
    whole and in order. Images keep their units: the task normalises them with :attr:`statistics`.

    With a GPU as ``device``, batches are built there, and a split that fits in half of its free memory is kept there.
    The stream of patches is the same in both cases, but differs from the stream on a CPU.

    Under a distributed strategy pass ``use_distributed_sampler=False`` and a different seed for each rank.

    Args:
        train: the training split.
        val: the validation split.
        test: the test split.
        batch_size: number of samples in a training batch.
        steps: training batches per epoch; None for one pass, with at least one batch.
        crop: side of the training crop in pixels; None for whole patches.
        augmentation: augmentation of training patches; None for :class:`TrainingAugmentation` with ``crop`` and
            ``seed``, False for none.
        seed: random seed of the shuffle and of the default augmentation.
        num_workers: number of processes that load patches; 0 loads in this process. The stream does not depend on
            it.
        eval_batch_size: number of samples in a validation or test batch; None for ``batch_size``.
        first_step: number of the first training batch, to resume a training run.
        device: device that uses the batches; None for host memory.
        resident: whether to keep the splits in the memory of the device; None keeps them if it is a GPU and they fit.
        accumulate: number of parts into which a training batch is cut, for gradient accumulation.
            The stream of patches is the same, and an epoch has ``steps * accumulate`` batches. Validation and test
            batches are equally small.
        balance: how strongly the groups of the training split are balanced
            (:attr:`zoo.training.recipes.Recipe.balance`).
        group_batches: whether every training batch holds patches of one group.

    Raises:
        ConfigError: if a number is out of range, the name of a split differs from its argument, or the splits differ in
            bands or classes.
    """

    def __init__(
        self,
        train: PatchDataset,
        val: PatchDataset | None = None,
        test: PatchDataset | None = None,
        *,
        batch_size: int = 16,
        steps: int | None = None,
        crop: int | None = None,
        augmentation: TrainingAugmentation | bool | None = None,
        seed: int = 0,
        num_workers: int = 0,
        eval_batch_size: int | None = None,
        first_step: int = 0,
        device: torch.device | str | None = None,
        resident: bool | None = None,
        accumulate: int = 1,
        balance: float = 0.0,
        group_batches: bool = False,
    ) -> None:
        super().__init__()
        for option, value, minimum in (
            ("batch_size", batch_size, 1),
            ("steps", steps, 1),
            ("eval_batch_size", eval_batch_size, 1),
            ("num_workers", num_workers, 0),
            ("first_step", first_step, 0),
            ("accumulate", accumulate, 1),
        ):
            if value is not None and value < minimum:
                raise ConfigError(f"{option} must be at least {minimum}, not {value}", where=f"option {option}")
        if batch_size % accumulate:
            raise ConfigError(
                f"a batch of {batch_size} patches cannot be cut into {accumulate} equal parts",
                where="option accumulate",
            )
        self.splits = {"train": train, "val": val, "test": test}
        for name, dataset in self.splits.items():
            if dataset is not None:
                _check_split(name, dataset, train)
        self.batch_size = batch_size
        self.steps = steps if steps is not None else max(1, len(train) // batch_size)
        self.seed = seed
        self.num_workers = num_workers
        self.accumulate = accumulate
        self.eval_batch_size = (eval_batch_size or batch_size) // accumulate or 1
        self.first_step = first_step
        self.device = torch.device("cpu" if device is None else device)
        self.resident = resident
        self.balance = balance
        self.group_batches = group_batches
        self._resident: dict[str, ResidentPatches] = {}
        self.augmentation: TrainingAugmentation | None
        if isinstance(augmentation, TrainingAugmentation):
            self.augmentation = augmentation
        elif augmentation is False:
            if crop is not None:
                raise ConfigError("a crop needs the augmentation, which is off", where="option crop")
            self.augmentation = None
        else:
            self.augmentation = TrainingAugmentation(crop, seed=seed)

    @cached_property
    def statistics(self) -> Statistics:
        """Return the statistics of the training split, computed once."""
        train = self.splits["train"]
        assert train is not None
        return compute_statistics(train)

    def train_dataloader(self) -> Iterable[Sample]:
        """Return a loader of ``steps`` full batches per epoch, each in ``accumulate`` parts."""
        train = self.splits["train"]
        assert train is not None
        part = self.batch_size // self.accumulate
        groups = [patch.group for patch in train.patches]
        length, start = self.steps * self.batch_size, self.first_step * self.batch_size
        if self.group_batches:
            draws: Draws = GroupDraws(
                groups, length, self.batch_size, seed=self.seed, start=start, balance=self.balance
            )
        else:
            weights = _balance_weights(groups, self.balance) if self.balance else None
            draws = Draws(len(train), length, seed=self.seed, start=start, weights=weights)
        if self._on_device:
            augmentation = None if self.augmentation is None else DeviceAugmentation(self.augmentation)
            return self._device_batches("train", train, part, draws, augmentation)
        return self._loader(_AugmentedDraws(train, self.augmentation), part, draws)

    def val_dataloader(self) -> Iterable[Sample]:
        """Return a loader of every validation patch once, whole."""
        return self._evaluation("val")

    def test_dataloader(self) -> Iterable[Sample]:
        """Return a loader of every test patch once, whole."""
        return self._evaluation("test")

    @property
    def _on_device(self) -> bool:
        return self.device.type != "cpu" or bool(self.resident)

    def _evaluation(self, name: str) -> Iterable[Sample]:
        dataset = self.splits[name]
        if dataset is None:
            raise ConfigError(f"no {name} split was given", where="PatchDataModule")
        if self._on_device:
            return self._device_batches(name, dataset, self.eval_batch_size)
        return self._loader(dataset, self.eval_batch_size, None)

    def _device_batches(
        self,
        name: str,
        dataset: PatchDataset,
        batch_size: int,
        draws: Draws | None = None,
        augmentation: DeviceAugmentation | None = None,
    ) -> DeviceBatches:
        resident = self._resident.get(name)
        if resident is None and (fits_on_device(dataset, self.device) if self.resident is None else self.resident):
            resident = self._resident[name] = ResidentPatches.load(dataset, self.device)
        return DeviceBatches(
            dataset,
            self.device,
            batch_size,
            draws=draws,
            length=None if draws is None else len(draws),
            augmentation=augmentation,
            resident=resident,
            num_workers=self.num_workers,
        )

    def _loader(self, dataset: Dataset[Sample], batch_size: int, sampler: Sampler[Key] | None) -> DataLoader[Sample]:
        return DataLoader(dataset, batch_size=batch_size, sampler=sampler, num_workers=self.num_workers)


def _balance_weights(groups: Sequence[str], balance: float) -> NDArray[np.float64]:
    """Return the weight of each patch: the number of patches in its group to the power of ``-balance``."""
    sizes = Counter(groups)
    return np.array([float(sizes[group]) ** -balance for group in groups])


def _check_split(name: str, dataset: PatchDataset, train: PatchDataset) -> None:
    if dataset.split != name:
        raise ConfigError(f"the {dataset.split} split was passed as {name}", where="PatchDataModule")
    names, train_names = (tuple(band.name for band in split.bands) for split in (dataset, train))
    if names != train_names:
        raise ConfigError(
            f"the bands of {name} are {', '.join(names)}, but those of train are {', '.join(train_names)}"
        )
    if dataset.class_names != train.class_names:
        raise ConfigError(
            f"the classes of {name} are {dataset.class_names}, but those of train are {train.class_names}"
        )
