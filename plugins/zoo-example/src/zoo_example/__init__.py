"""Registers one model. The target is a name, so that listing models imports no torch."""

from zoo.registry import Flag, ModelSpec, hookimpl
from zoo.registry.hookspecs import RegisterModel


@hookimpl
def zoo_register_models(register: RegisterModel) -> None:
    """Register ``tiny_fcn``."""
    can = frozenset({Flag.EXPORTABLE, Flag.BATCH1_TRAINING})
    summary = "two convolutions and MCSA at full resolution"
    register(ModelSpec(name="tiny_fcn", target="zoo_example.model:TinyFCN", summary=summary, flags=can))
