"""The contracts of data sets, losses, metrics and risk models: one function for each check, as for models."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import pandas as pd
import torch
from numpy.typing import NDArray
from torch import Tensor

from zoo.registry import DatasetSpec, LossSpec, MetricSpec, Option, RiskModelSpec, create_dataset, create_loss
from zoo.registry.options import options_of
from zoo.registry.specs import Spec
from zoo.testing.model_under_test import CheckSkipped, require

IGNORE = 255
SPLITS = ("train", "val", "test")
PATCHES_TO_READ = 3
RISK_ROWS = 200
MIN_AUC = 0.6
"""Minimum area under the ROC curve of a risk model that has learned something."""

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
        value = _scalar(loss(logits, mask))
        require(bool(value.isfinite()), f"the loss is {value.item()} with {classes} classes", "look for a division")
        if value.requires_grad:
            value.backward()  # type: ignore[no-untyped-call]
        reached = logits.grad is not None and bool(logits.grad.isfinite().all()) and bool(logits.grad.any())
        require(reached, "the gradient of the logits is missing, zero or not finite", "use torch functions only")


def _scalar(value: object) -> Tensor:
    """Return the value of a loss, which must be a scalar tensor."""
    found = f"shape {tuple(value.shape)}" if isinstance(value, Tensor) else f"a {type(value).__name__}"
    require(isinstance(value, Tensor) and value.ndim == 0, f"the loss returned {found}", "return a scalar tensor")
    assert isinstance(value, Tensor)
    return value


def check_loss_ignores(spec: LossSpec, options: Mapping[str, Any]) -> None:
    """Pixels whose mask is ``ignore_index`` do not count, and a mask without other pixels gives a finite loss."""
    loss = create_loss(spec.name, IGNORE, **options)
    logits, mask = _batch(2)
    mask[:, :4] = IGNORE
    changed = logits.detach().clone()
    changed[:, :, :4] += 5.0
    hint = "leave out pixels whose mask is ignore_index"
    same = torch.allclose(_scalar(loss(logits, mask)), _scalar(loss(changed, mask)), rtol=1e-5, equal_nan=True)
    require(same, "the logits of ignored pixels change the loss", hint)
    empty = _scalar(loss(logits, torch.full_like(mask, IGNORE)))
    require(bool(empty.isfinite()), f"the loss is {empty.item()} if all pixels are ignored", "divide by at least 1")


def check_metric_values(spec: MetricSpec, options: Mapping[str, Any]) -> None:
    """The metric returns one number per element, for arrays of any shape and for large counts."""
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
    """Counts of zero give a number or NaN, never an error or infinity."""
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
            allowed = {*range(len(data.class_names)), IGNORE}
            wrong = set(mask.unique().tolist()) - allowed
            require(not wrong, f"the mask {where} holds {sorted(wrong)[:5]}", f"use class indices and {IGNORE}")
            shapes.add(tuple(image.shape))
        require(len(shapes) == 1, f"the patches of {split} have the shapes {sorted(shapes)}", "cut them to one size")


def check_dataset_transforms(spec: DatasetSpec, options: Mapping[str, Any]) -> None:
    """The argument ``transforms`` is applied to every sample."""
    data = create_dataset(spec.name, "train", transforms=lambda sample: {**sample, "marked": True}, **options)
    require("marked" in data[0], "transforms is not applied to the samples", "keep the argument in self.transforms")


def check_dataset_names(spec: DatasetSpec, options: Mapping[str, Any]) -> None:
    """Names of patches are unique, and no patch is in two splits."""
    seen: dict[str, str] = {}
    for split in SPLITS:
        for patch in create_dataset(spec.name, split, **options).patches:
            before = seen.get(patch.name)
            hint = "give every patch a unique name"
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


def check_risk_fit(spec: RiskModelSpec, options: Mapping[str, Any]) -> None:
    """``fit`` returns the model, and ``predict_proba`` two probabilities for each row that sum to 1."""
    model, table, _ = _fitted(spec)
    found = np.asarray(model.predict_proba(table))
    hint = "return float64 (N, 2): the probabilities of 0 and of 1"
    require(found.shape == (len(table), 2), f"predict_proba returned shape {found.shape}", hint)
    require(bool(np.isfinite(found).all()), "a probability is NaN or infinite", "fill missing values inside the model")
    require(bool(((found >= 0) & (found <= 1)).all()), "a probability is not in [0, 1]", hint)
    require(bool(np.allclose(found.sum(axis=1), 1.0)), "the two probabilities of a row do not sum to 1", hint)


def check_risk_learns(spec: RiskModelSpec, options: Mapping[str, Any]) -> None:
    """The model ranks its training rows better than chance if steep slopes and strong rain cause the landslides."""
    model, table, labels = _fitted(spec)
    score = np.asarray(model.predict_proba(table))[:, 1]
    order = np.argsort(score, kind="stable").argsort() + 1
    positives = int(labels.sum())
    area = (order[labels == 1].sum() - positives * (positives + 1) / 2) / (positives * (len(labels) - positives))
    require(area > MIN_AUC, f"its AUC on the training rows is {area:.2f}", "check that it uses X and y in their order")


def check_risk_repeats(spec: RiskModelSpec, options: Mapping[str, Any]) -> None:
    """Two fits with one seed give the same probabilities, and fitting changes neither the table nor the labels."""
    (first, table, labels), (second, _, _) = _fitted(spec), _fitted(spec)
    same = np.allclose(first.predict_proba(table), second.predict_proba(table), rtol=0, atol=1e-12)
    require(bool(same), "two fits with the same seed differ", "pass seed to everything that is random")
    untouched, expected = _risk_table()
    changed = not table.equals(untouched) or not np.array_equal(labels, expected)
    require(not changed, "fit or predict_proba changes the table", "work on a copy")


def check_risk_new_rows(spec: RiskModelSpec, options: Mapping[str, Any]) -> None:
    """The probability of a row does not depend on the other rows or on the index labels."""
    model, table, _ = _fitted(spec)
    rows = table.iloc[5:25]
    together = np.asarray(model.predict_proba(table))[5:25]
    alone = np.asarray(model.predict_proba(rows.set_axis(np.arange(1000, 1020))))
    same = np.allclose(together, alone, atol=1e-9)
    require(same, "the probability of a row depends on the other rows", "compute statistics only in fit")


CONTRACTS: dict[type[Spec], tuple[SpecCheck, ...]] = {
    DatasetSpec: (
        check_described_options,
        check_dataset_samples,
        check_dataset_transforms,
        check_dataset_names,
        check_dataset_repeats,
    ),
    LossSpec: (check_described_options, check_loss_value, check_loss_ignores),
    MetricSpec: (check_metric_values, check_metric_undefined),
    RiskModelSpec: (check_risk_fit, check_risk_learns, check_risk_repeats, check_risk_new_rows),
}
"""The checks of every kind except models, in the order in which they run."""


def _risk_table() -> tuple[pd.DataFrame, NDArray[np.int64]]:
    """Return places and labels that depend on slope and rain, with noise, missing values and irrelevant features."""
    random = np.random.default_rng(0)
    slope, rain = random.uniform(0, 45, RISK_ROWS), random.gamma(2.0, 5.0, RISK_ROWS)
    table = pd.DataFrame(
        {
            "slope": slope,
            "elevation": random.uniform(100, 2000, RISK_ROWS),
            "rain_intensity": rain,
            "rain_duration": random.uniform(0.5, 5.0, RISK_ROWS),
            "lithology": pd.Categorical(random.choice(["sandstone", "shale"], RISK_ROWS)),
        }
    )
    table.loc[::17, "elevation"] = np.nan
    risk = (slope - 22) / 8 + (rain - 10) / 10 + random.normal(0, 0.5, RISK_ROWS)
    return table, (risk > 0).astype(np.int64)


def _fitted(spec: RiskModelSpec) -> tuple[Any, pd.DataFrame, NDArray[np.int64]]:
    """Return a model fitted to the synthetic table, with the table and its labels; skip a model that cannot use it."""
    from zoo.risk.models import create_risk_model, unsupported_reason

    table, labels = _risk_table()
    reason = unsupported_reason(spec.name, table)
    if reason is not None:
        raise CheckSkipped(f"the model does not use the table of this check: {reason}")
    model = create_risk_model(spec.name, rain=("rain_intensity", "rain_duration"), seed=0)
    fitted: object = model.fit(table, labels)
    require(fitted is model, f"fit returned {type(fitted).__name__}", "return self from fit")
    return model, table, labels


def _batch(classes: int) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(0)
    logits = torch.randn(2, classes, 8, 8, generator=generator).requires_grad_()
    return logits, torch.randint(0, classes, (2, 8, 8), generator=generator)
