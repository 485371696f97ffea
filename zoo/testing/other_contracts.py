"""The contracts of data sets, losses and metrics: one function for each check, as for models."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import torch
from torch import Tensor

from zoo.registry import DatasetSpec, LossSpec, MetricSpec, Option, create_dataset, create_loss
from zoo.registry.options import options_of
from zoo.registry.specs import Spec
from zoo.testing.model_under_test import CheckSkipped, require

IGNORE = 255
SPLITS = ("train", "val", "test")
PATCHES_TO_READ = 3

SpecCheck = Callable[[Any, Mapping[str, Any]], None]


def check_described_options(spec: Spec, options: Mapping[str, Any]) -> None:
    """The docstring describes every option."""
    found: tuple[Option, ...] = options_of(spec.resolve(), spec.FIXED)
    if not found:
        raise CheckSkipped(f"the {spec.kind} has no options")
    silent = [option.name for option in found if not option.help]
    require(not silent, f"the docstring does not describe {', '.join(silent)}", "add it to the section 'Args:'")


def check_loss_value(spec: LossSpec, options: Mapping[str, Any]) -> None:
    """The loss is a finite scalar with a finite gradient, for two classes and for five."""
    loss = create_loss(spec.name, IGNORE, **options)
    for classes in (2, 5):
        logits, mask = _batch(classes)
        value: object = loss(logits, mask)
        got = type(value).__name__ if not isinstance(value, Tensor) else f"shape {tuple(value.shape)}"
        require(isinstance(value, Tensor) and value.ndim == 0, f"the loss returned {got}", "return a scalar tensor")
        assert isinstance(value, Tensor)
        require(bool(value.isfinite()), f"the loss is {value.item()} with {classes} classes", "look for a division")
        value.backward()  # type: ignore[no-untyped-call]
        reached = logits.grad is not None and bool(logits.grad.isfinite().all()) and bool(logits.grad.any())
        require(reached, "the gradient of the logits is missing, zero or not finite", "use torch functions only")


def check_loss_ignores(spec: LossSpec, options: Mapping[str, Any]) -> None:
    """Pixels whose mask is ``ignore_index`` do not count, and a mask without other pixels gives a finite loss."""
    loss = create_loss(spec.name, IGNORE, **options)
    logits, mask = _batch(2)
    mask[:, :4] = IGNORE
    changed = logits.detach().clone()
    changed[:, :, :4] += 5.0
    hint = "leave out pixels whose mask is ignore_index"
    same = torch.allclose(loss(logits, mask), loss(changed, mask), rtol=1e-5)
    require(same, "the logits of ignored pixels change the loss", hint)
    empty = loss(logits, torch.full_like(mask, IGNORE))
    require(bool(empty.isfinite()), f"the loss is {empty.item()} if all pixels are ignored", "divide by at least 1")


def check_metric_values(spec: MetricSpec, options: Mapping[str, Any]) -> None:
    """The metric returns one number for each element, for arrays of any shape, also of large counts."""
    metric = spec.resolve()
    for shape, largest in (((6,), 100), ((2, 3), 100), ((1,), 2**40)):
        counts = [np.full(shape, largest // part, dtype=np.int64) for part in (2, 3, 5, 1)]
        kept = [count.copy() for count in counts]
        found = np.asarray(metric(*counts))
        hint = "compute with arrays, and return one float64 for each element"
        require(found.shape == shape, f"the metric returned shape {found.shape} for counts of shape {shape}", hint)
        require(found.dtype.kind == "f", f"the metric returned {found.dtype}", hint)
        require(bool(np.isfinite(found).all()), f"the metric is {found.ravel()[0]} for counts up to {largest}", hint)
        unchanged = all(np.array_equal(a, b) for a, b in zip(counts, kept, strict=True))
        require(unchanged, "the metric changes its arguments", "work on copies")


def check_metric_undefined(spec: MetricSpec, options: Mapping[str, Any]) -> None:
    """Counts of zero give a number or NaN, no error and no infinity."""
    zeros = [np.zeros(3, dtype=np.int64)] * 4
    found = np.asarray(spec.resolve()(*(zero.copy() for zero in zeros)), dtype=np.float64)
    require(not bool(np.isinf(found).any()), "the metric is infinite for counts of zero", "return NaN where undefined")


def check_dataset_samples(spec: DatasetSpec, options: Mapping[str, Any]) -> None:
    """Every split has patches of one size: float32 images with one channel for each band, and int64 masks."""
    for split in SPLITS:
        data = create_dataset(spec.name, split, **options)
        require(len(data) > 0, f"the split {split} is empty", "see split_notes")
        shapes = set()
        for index in range(min(PATCHES_TO_READ, len(data))):
            sample = data[index]
            image, mask = sample["image"], sample["mask"]
            where = f"of patch {index} of {split}"
            require(image.dtype == torch.float32, f"the image {where} is {image.dtype}", "return float32 from read")
            require(
                image.ndim == 3 and len(image) == len(data.bands),
                f"the image {where} has shape {tuple(image.shape)} for {len(data.bands)} bands",
                "return (C, H, W) from read",
            )
            require(mask.shape == image.shape[1:], f"the mask {where} has shape {tuple(mask.shape)}", "return (H, W)")
            allowed = {*range(len(data.class_names)), IGNORE}
            wrong = set(mask.unique().tolist()) - allowed
            require(not wrong, f"the mask {where} holds {sorted(wrong)[:5]}", f"use class indices and {IGNORE}")
            shapes.add(tuple(image.shape))
        require(len(shapes) == 1, f"the patches of {split} have the shapes {sorted(shapes)}", "cut them to one size")


def check_dataset_names(spec: DatasetSpec, options: Mapping[str, Any]) -> None:
    """Names of patches are unique, and no patch is in two splits."""
    seen: dict[str, str] = {}
    for split in SPLITS:
        for patch in create_dataset(spec.name, split, **options).patches:
            before = seen.get(patch.name)
            hint = "give every patch a name of its own"
            require(before is None, f"patch {patch.name!r} of {split} is in {before} too", hint)
            seen[patch.name] = split


def check_dataset_repeats(spec: DatasetSpec, options: Mapping[str, Any]) -> None:
    """Opening a split twice gives the same fingerprint and the same values, and reading changes nothing."""
    first, second = (create_dataset(spec.name, "test", **options) for _ in range(2))
    require(first.fingerprint() == second.fingerprint(), "the fingerprint changes", "seed everything that is random")
    image, mask = first.read(0)
    expected = image.copy()
    image[:] = 0
    mask[:] = 0
    again = first.read(0)[0]
    same = np.array_equal(again, expected, equal_nan=True)
    require(same, "writing into an image that read returned changes the data set", "return a copy from read")


CONTRACTS: dict[type[Spec], tuple[SpecCheck, ...]] = {
    DatasetSpec: (check_described_options, check_dataset_samples, check_dataset_names, check_dataset_repeats),
    LossSpec: (check_described_options, check_loss_value, check_loss_ignores),
    MetricSpec: (check_metric_values, check_metric_undefined),
}
"""The checks of every kind but models, in the order in which they run."""


def _batch(classes: int) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(0)
    logits = torch.randn(2, classes, 8, 8, generator=generator).requires_grad_()
    return logits, torch.randint(0, classes, (2, 8, 8), generator=generator)
