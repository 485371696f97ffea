"""Replacing modules inside a model by name."""

from __future__ import annotations

from torch import nn


def replace_module(model: nn.Module, name: str, new: nn.Module) -> None:
    """Put ``new`` where the module called ``name`` is, everywhere in ``model`` that holds it."""
    old = model.get_submodule(name)
    # Some models ask a layer whether they are training.
    new.train(old.training)
    # All places first: the new module may hold the old one.
    places = [(parent, key) for parent in model.modules() for key, child in parent.named_children() if child is old]
    for parent, key in places:
        setattr(parent, key, new)


def is_plain(module: nn.Module, kind: type[nn.Module]) -> bool:
    """Whether a module does what its class is known to do: no subclass, no hooks, no parametrised weights.

    A subclass may compute something else, and a hook may look at what a fold would change.
    """
    return type(module) is kind and not (module._forward_hooks or module._forward_pre_hooks)
