"""The built-in losses, registered through the hook that plugins use."""

from __future__ import annotations

from zoo.registry import LossSpec, hookimpl
from zoo.registry.hookspecs import RegisterLoss


@hookimpl
def zoo_register_losses(register: RegisterLoss) -> None:
    """Register the losses of :mod:`zoo.training.losses`."""
    losses = "zoo.training.losses"
    register(LossSpec(name="ce", target=f"{losses}:CrossEntropy", summary="mean cross-entropy"))
    register(LossSpec(name="dice", target=f"{losses}:LandslideDice", summary="one minus soft Dice of the landslide"))
    register(LossSpec(name="ce_dice", target=f"{losses}:CrossEntropyDice", summary="cross-entropy plus soft Dice"))
    register(
        LossSpec(
            name="focal",
            target=f"{losses}:Focal",
            summary="focal loss",
        )
    )
