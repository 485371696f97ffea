"""Recipes: everything about training but the model and the data, under three names."""

from __future__ import annotations

from dataclasses import asdict, dataclass, fields, replace
from typing import Any, Literal, get_args

from zoo.errors import ConfigError, UnknownNameError

Optimiser = Literal["adamw", "rmsprop"]
Schedule = Literal["cosine", "plateau", "constant"]
Precision = Literal["auto", "fp32", "bf16"]


@dataclass(frozen=True)
class Recipe:
    """How a model is trained.

    Attributes:
        name: ``quick``, ``modern``, ``paper``, or one of them followed by what was changed.
        summary: one line for people.
        steps: optimiser steps; when ``None``, ``epochs`` passes over the training split.
        epochs: passes over the training split, used when ``steps`` is ``None``.
        batch_size: patches a step.
        crop: edge in pixels of the random training crops; ``None`` for whole patches.
        optimiser: ``adamw`` or ``rmsprop``.
        lr: peak learning rate.
        weight_decay: as the optimiser takes it.
        momentum: of RMSprop.
        schedule: ``cosine`` (to zero), ``plateau`` (a tenth when validation loss stops falling) or ``constant``.
        warmup: share of the steps in which the rate rises from a hundredth to its peak.
        loss: name of a registered loss.
        ema: decay of the exponential moving average of the weights that is kept in the end; ``None`` for none.
        clip: largest norm of the gradient; ``None`` for no limit.
        augment: random flips and rotations (the eight of the square) or none.
        precision: ``fp32``, ``bf16`` (mixed), or ``auto``: whichever takes a step faster here.
            A named one gives the same weights again; ``auto`` may choose differently on another day.
        time_limit: seconds that one trial may take, training and evaluation together; ``None`` for no limit.
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

    def __post_init__(self) -> None:
        if (self.steps is None) == (self.epochs is None):
            raise ConfigError("needs either steps or epochs, not both", where=f"recipe {self.name!r}")
        positive = ("steps", "epochs", "batch_size", "crop", "lr", "clip", "time_limit")
        for label in positive:
            value = getattr(self, label)
            if value is not None and not value > 0:
                raise ConfigError(f"{label} must be positive, not {value!r}", where=f"recipe {self.name!r}")
        for label, choices in (("optimiser", Optimiser), ("schedule", Schedule), ("precision", Precision)):
            if getattr(self, label) not in get_args(choices):
                raise UnknownNameError(
                    label, str(getattr(self, label)), get_args(choices), where=f"recipe {self.name!r}"
                )
        for label, upper in (("warmup", 1.0), ("ema", 1.0), ("momentum", 1.0)):
            value = getattr(self, label)
            if value is not None and not 0 <= value < upper:
                raise ConfigError(f"{label} must be in [0, {upper:g}), not {value!r}", where=f"recipe {self.name!r}")

    def total_steps(self, patches: int) -> int:
        """Optimiser steps on a training split of ``patches``: the same for every model.

        A pass leaves out the last, incomplete batch; a split smaller than one batch still gives one step.
        """
        if self.steps is not None:
            return self.steps
        assert self.epochs is not None
        return self.epochs * self.steps_a_pass(patches)

    def steps_a_pass(self, patches: int) -> int:
        """Full batches in one pass over ``patches``, at least one."""
        return max(1, patches // self.batch_size)

    def changed(self, **overrides: Any) -> Recipe:
        """A recipe with some fields replaced and a name that says so; ``None`` leaves a field as it is, and a crop
        of 0 stands for whole patches."""
        known = {field.name for field in fields(self)} - {"name", "summary"}
        for label in overrides:
            if label not in known:
                raise UnknownNameError("recipe field", label, known, where=f"recipe {self.name!r}")
        changes = {
            label: value for label, value in overrides.items() if value is not None and value != getattr(self, label)
        }
        if not changes:
            return self
        if changes.get("crop") == 0:
            changes["crop"] = None
        if "steps" in changes:
            changes["epochs"] = None
        elif "epochs" in changes:
            changes["steps"] = None
        named = sorted(set(changes) & {label for label, value in overrides.items() if value is not None})
        shown = ",".join(f"{label}={changes[label]}" for label in named)
        return replace(self, **changes, name=f"{self.name}[{shown}]")

    def to_dict(self) -> dict[str, Any]:
        """All fields as plain JSON values."""
        return asdict(self)

    @classmethod
    def from_dict(cls, values: dict[str, Any]) -> Recipe:
        """The inverse of :meth:`to_dict`; fields of another version of zoo are refused by name."""
        known = {field.name for field in fields(cls)}
        for label in values:
            if label not in known:
                raise UnknownNameError("recipe field", label, known)
        return cls(**values)


RECIPES = {
    recipe.name: recipe
    for recipe in (
        Recipe(
            name="quick",
            summary="56 steps on 64-pixel crops: minutes on a laptop; ranks code, not science",
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


def get_recipe(name: str) -> Recipe:
    """The recipe called ``name``.

    Raises:
        UnknownNameError: with the names there are.
    """
    if name not in RECIPES:
        raise UnknownNameError("recipe", name, RECIPES)
    return RECIPES[name]
