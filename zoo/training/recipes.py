"""Training recipes: all training settings except the model and the data; four are built in."""

from __future__ import annotations

import json
import math
from dataclasses import asdict, dataclass, field, fields, replace
from typing import Any, Literal, get_args

from zoo.errors import ConfigError, UnknownNameError

Optimiser = Literal["adamw", "rmsprop"]
Schedule = Literal["cosine", "plateau", "constant"]
Precision = Literal["auto", "fp32", "bf16"]

MAX_STEPS = 10**9
"""Maximum number of steps, epochs or patches per batch: a larger value is a typing error."""

JITTERS = {"scale_jitter": 3.0, "gain": 0.9, "offset": 10.0, "gamma": 3.0}
"""Fields for random changes of patches, with the maximum value of each [O]."""


@dataclass(frozen=True)
class Recipe:
    """Settings of a training run.

    Attributes:
        name: ``quick``, ``modern``, ``strong`` or ``paper``, followed by the fields that were changed.
        summary: description in one line.
        steps: number of optimiser steps; ``None`` to train for ``epochs``.
        epochs: number of passes over the training split, if ``steps`` is ``None``.
        batch_size: number of patches per step.
        crop: side of the random training crops in pixels; ``None`` for whole patches.
        optimiser: ``adamw`` or ``rmsprop``.
        lr: peak learning rate.
        weight_decay: weight decay, as the optimiser defines it.
        momentum: momentum of RMSprop.
        schedule: ``cosine`` (decays to zero), ``plateau`` (divides the rate by ten when the validation loss stops
            falling) or ``constant``.
        warmup: share of the steps during which the rate rises from a hundredth of its peak to its peak.
        loss: name of a registered loss.
        ema: decay of the exponential moving average of the weights, which replaces the weights at the end; ``None``
            for no average.
        clip: maximum norm of the gradient; ``None`` for no limit.
        augment: whether patches are flipped and rotated at random (the eight symmetries of the square).
        precision: ``fp32``, ``bf16`` (mixed), or ``auto`` for the format with the fastest step on this machine.
            A named format gives reproducible weights; ``auto`` may choose differently in another run.
        time_limit: maximum number of seconds for one trial, including training and evaluation; ``None`` for no limit.
        loss_options: keyword arguments of the loss, such as ``{"gamma": 3.0}`` for ``focal``.
        scale_jitter: random magnification of patches; 0.5 draws log-uniform factors from 1/1.5 to 1.5. The four jitters
            are those of :class:`zoo.datasets.augmentation.TrainingAugmentation`; 0 disables each.
        gain: maximum relative change of a band's brightness.
        offset: maximum shift of a band, in its standard deviations.
        gamma: maximum relative change of a band's contrast exponent. Gain, offset and gamma change only bands that
            record light (:func:`zoo.physics.bands.records_light`).
        balance: how strongly groups (scenes, events) of different size are balanced: 0 draws every patch equally often,
            1 every group. In between, a patch of a group of n patches is drawn in proportion to ``n ** -balance``.
        group_batches: whether every batch holds patches of one group (scene, event), so that batch normalisation sees
            one region at a time, as it does after an adaptation.
        standardise: probability that the images of a training batch are standardised (mean 0, deviation 1) in every
            optical band. A model trained on both kinds depends less on the illumination of its training scenes
            (:func:`zoo.training.fit.standardised`).
        encoder_lr_factor: learning rate of the encoder as a fraction of ``lr``, for pretrained encoders: weights with
            ``encoder`` or ``backbone`` in their names.

    Raises:
        ConfigError: if a field is out of range, or steps and epochs are both given or both missing.
        UnknownNameError: if the optimiser, schedule or precision does not exist.
    """

    name: str
    summary: str
    steps: int | None = None
    epochs: int | None = None
    batch_size: int = 16
    crop: int | None = None
    optimiser: Optimiser = "adamw"
    lr: float = 1e-3
    weight_decay: float = 1e-2
    momentum: float = 0.9
    schedule: Schedule = "cosine"
    warmup: float = 0.1
    loss: str = "ce_dice"
    ema: float | None = None
    clip: float | None = 1.0
    augment: bool = True
    precision: Precision = "auto"
    time_limit: float | None = None
    loss_options: dict[str, Any] = field(default_factory=dict)
    scale_jitter: float = 0.0
    gain: float = 0.0
    offset: float = 0.0
    gamma: float = 0.0
    balance: float = 0.0
    encoder_lr_factor: float = 1.0
    group_batches: bool = False
    standardise: float = 0.0

    def __post_init__(self) -> None:
        where = f"recipe {self.name!r}"
        if (self.steps is None) == (self.epochs is None):
            raise ConfigError("needs either steps or epochs, not both", where=where)
        for label in ("steps", "epochs", "batch_size", "crop", "lr", "clip", "time_limit"):
            value = getattr(self, label)
            if value is not None and not (value > 0 and value < math.inf):
                raise ConfigError(f"{label} must be a positive number, not {value!r}", where=where)
        for label in ("steps", "epochs", "batch_size", "crop"):
            value = getattr(self, label)
            if value is not None and value > MAX_STEPS:
                raise ConfigError(f"{label} must be at most {MAX_STEPS:,}, not {value}", where=where)
        if not 0 <= self.weight_decay < math.inf:
            raise ConfigError(f"weight_decay must be 0 or more, not {self.weight_decay!r}", where=where)
        for label, choices in (("optimiser", Optimiser), ("schedule", Schedule), ("precision", Precision)):
            if getattr(self, label) not in get_args(choices):
                raise UnknownNameError(label, str(getattr(self, label)), get_args(choices), where=where)
        for label in ("warmup", "ema", "momentum"):
            value = getattr(self, label)
            if value is not None and not 0 <= value < 1:
                raise ConfigError(f"{label} must be in [0, 1), not {value!r}", where=where)

        for label, maximum in JITTERS.items():
            value = getattr(self, label)
            if not 0 <= value <= maximum:
                raise ConfigError(f"{label} must be from 0 to {maximum:g}, not {value!r}", where=where)
        for label in ("balance", "standardise"):
            if not 0 <= getattr(self, label) <= 1:
                raise ConfigError(f"{label} must be from 0 to 1, not {getattr(self, label)!r}", where=where)
        if not 0 < self.encoder_lr_factor <= 1:
            raise ConfigError(
                f"encoder_lr_factor must be above 0 and at most 1, not {self.encoder_lr_factor!r}", where=where
            )

    def total_steps(self, patches: int) -> int:
        """Return the number of optimiser steps on a training split of ``patches``; it is the same for every model.

        A pass excludes the last, incomplete batch. A split smaller than one batch gives one step.
        """
        if self.steps is not None:
            return self.steps
        assert self.epochs is not None
        return self.epochs * self.steps_a_pass(patches)

    def steps_a_pass(self, patches: int) -> int:
        """Return the number of full batches in one pass over ``patches``, at least one."""
        return max(1, patches // self.batch_size)

    def changed(self, **overrides: Any) -> Recipe:
        """Return a recipe with some fields replaced and a name that lists them.

        Args:
            overrides: new values by field name. ``None`` keeps the field; a crop of 0 means whole patches.

        Raises:
            UnknownNameError: if there is no such field.
            ConfigError: if a value is out of range.
        """
        known = {field.name for field in fields(self)} - {"name", "summary"}
        for label in overrides:
            if label not in known:
                raise UnknownNameError("recipe field", label, known, where=f"recipe {self.name!r}")
        given = {label for label, value in overrides.items() if value is not None}
        changes = {label: overrides[label] for label in given if overrides[label] != getattr(self, label)}
        if not changes:
            return self
        if changes.get("crop") == 0:
            changes["crop"] = None
        if "steps" in changes:
            changes["epochs"] = None
        elif "epochs" in changes:
            changes["steps"] = None
        named = {label: changes[label] for label in sorted(given & set(changes)) if label != "loss_options"}
        named |= changes.get("loss_options", {})
        shown = ",".join(f"{label}={value}" for label, value in named.items())
        return replace(self, **changes, name=f"{self.name}[{shown}]")

    def to_dict(self) -> dict[str, Any]:
        """Return the fields as plain JSON values.

        The keys of trials are computed from these values, so fields that older versions did not have are left out if
        they have their defaults.
        """
        later = {
            "loss_options": {},
            "balance": 0.0,
            "encoder_lr_factor": 1.0,
            "group_batches": False,
            "standardise": 0.0,
            **dict.fromkeys(JITTERS, 0.0),
        }
        return {name: value for name, value in asdict(self).items() if name not in later or value != later[name]}

    @classmethod
    def from_dict(cls, values: dict[str, Any]) -> Recipe:
        """Return the recipe that :meth:`to_dict` wrote; raise an error that names unknown fields."""
        known = {field.name for field in fields(cls)}
        for label in values:
            if label not in known:
                raise UnknownNameError("recipe field", label, known)
        return cls(**values)

    def __hash__(self) -> int:
        return hash(json.dumps(self.to_dict(), sort_keys=True, default=str))


# Keys of trials are also computed from the summaries: changing a summary makes a finished benchmark train again.
RECIPES = {
    recipe.name: recipe
    for recipe in (
        Recipe(
            name="quick",
            summary="56 steps on 64-pixel crops: minutes on a laptop; for checking the software",
            steps=56,
            crop=64,
            lr=2e-3,
            time_limit=600.0,
        ),
        Recipe(
            name="modern",
            summary="50 epochs of AdamW, warm-up and cosine, CE + Dice, averaged weights [O]",
            epochs=50,
            lr=5e-4,
            ema=0.999,
        ),
        Recipe(
            name="strong",
            summary="100 epochs as modern, with random scale, brightness and contrast: for unseen regions [O]",
            epochs=100,
            lr=5e-4,
            ema=0.999,
            scale_jitter=0.5,
            gain=0.2,
            offset=0.2,
            gamma=0.3,
        ),
        Recipe(
            name="paper",
            summary="50 epochs, batch 16, lr 1e-5 [P]; RMSprop, plateau, cross-entropy [S: milesial/Pytorch-UNet]",
            epochs=50,
            optimiser="rmsprop",
            lr=1e-5,
            weight_decay=1e-8,
            schedule="plateau",
            warmup=0.0,
            loss="ce",
        ),
    )
}


@dataclass(frozen=True)
class FineTuning:
    """Weights that training starts from, and how they are trained (:mod:`zoo.training.finetuning`).

    Attributes:
        parent: the bundle as the user named it: a folder, or the name or URL of weights.
        freeze: layers that keep their weights, such as ``encoder``: prefixes of weight names.
        old_lr_factor: learning rate of copied weights as a fraction of the recipe's rate; new weights train at the full
            rate. 0.1 preserves what the copied weights have learnt while new layers train [O].
        folder: local folder of the bundle; empty before it is resolved.
        sha256: sha256 of the bundle's weights; empty before it is resolved.

    Raises:
        ConfigError: if the factor is out of range or a layer name is empty.
    """

    parent: str
    freeze: tuple[str, ...] = ()
    old_lr_factor: float = 0.1
    folder: str = ""
    sha256: str = ""

    def __post_init__(self) -> None:
        if not 0 < self.old_lr_factor <= 1:
            raise ConfigError(
                f"old_lr_factor must be above 0 and at most 1, not {self.old_lr_factor!r}",
                hint="Use freeze to keep weights unchanged",
            )
        if not all(self.freeze):
            raise ConfigError("a layer to freeze has no name")

    def identity(self) -> dict[str, Any]:
        """Return the settings that the trained weights depend on, which exclude the location of the bundle."""
        return {"sha256": self.sha256, "freeze": list(self.freeze), "old_lr_factor": self.old_lr_factor}


def get_recipe(name: str) -> Recipe:
    """Return the recipe called ``name``.

    Raises:
        UnknownNameError: if there is no such recipe; the message lists all recipes.
    """
    if name not in RECIPES:
        raise UnknownNameError("recipe", name, RECIPES)
    return RECIPES[name]
