"""Registration of one model. The target is a string, so listing models imports no torch."""

from zoo.registry import Flag, ModelSpec, hookimpl
from zoo.registry.hookspecs import RegisterModel


@hookimpl
def zoo_register_models(register: RegisterModel) -> None:
    """Register ``tiny_fcn``."""
    flags = frozenset({Flag.EXPORTABLE, Flag.BATCH1_TRAINING})
    summary = "two convolutions and MCSA at full resolution"
    register(ModelSpec(name="tiny_fcn", target="zoo_example.model:TinyFCN", summary=summary, flags=flags))
