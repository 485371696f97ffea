"""What flows where in a model: recorded while it runs once, so that any module can be understood, not only those that
can be traced symbolically."""

from __future__ import annotations

from collections.abc import Iterable
from contextlib import ExitStack
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves


@dataclass
class Value:
    """One tensor that a leaf module gave, and what became of it.

    Attributes:
        producer: name of the module that gave it.
        uses: operations that took it afterwards.
    """

    producer: str
    uses: int = 0


@dataclass
class Call:
    """One call of a leaf module.

    Attributes:
        source: the value it took, when another leaf gave exactly this tensor.
        output: the value it gave; ``None`` when it gave no single tensor.
        shape: of its input; empty when that is no single tensor.
    """

    source: Value | None
    output: Value | None
    shape: tuple[int, ...]


@dataclass
class Flow:
    """All calls of leaf modules in one run, by module name."""

    calls: dict[str, list[Call]] = field(default_factory=dict)

    def only_call(self, name: str) -> Call | None:
        """The call of a module that ran exactly once; ``None`` for any other."""
        calls = self.calls.get(name, [])
        return calls[0] if len(calls) == 1 else None

    def feeds_alone(self, name: str) -> str | None:
        """The module whose whole output goes to ``name`` and nowhere else, when both ran exactly once."""
        call = self.only_call(name)
        if call is None or call.source is None or call.source.uses != 1:
            return None
        before = self.only_call(call.source.producer)
        return call.source.producer if before is not None and before.output is call.source else None


_MARK = "_zoo_value"


class _CountUses(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """Counts every operation that takes a marked tensor, whoever calls it: modules, functions or methods."""

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        seen: set[int] = set()
        for leaf in tree_leaves((args, kwargs)):
            value = getattr(leaf, _MARK, None) if isinstance(leaf, Tensor) else None
            if value is not None and id(value) not in seen:
                seen.add(id(value))
                value.uses += 1
        return func(*args, **kwargs)


def record_flow(model: nn.Module, example: Tensor, leaves: Iterable[type[nn.Module]]) -> Flow:
    """Run ``model`` once and record how its leaf modules are connected.

    Args:
        model: in eval mode.
        example: ``(B, C, H, W)``; one image is enough.
        leaves: module types to record, subclasses included; what is inside them is not looked at.
    """
    flow = Flow()
    kinds = tuple(leaves)
    with ExitStack() as stack, torch.no_grad():
        for name, module in model.named_modules():
            if isinstance(module, kinds):
                pending: list[tuple[Value | None, tuple[int, ...]]] = []
                for handle in (
                    module.register_forward_pre_hook(partial(_entered, pending)),
                    module.register_forward_hook(partial(_left, flow, name, pending)),
                ):
                    stack.callback(handle.remove)
        with _CountUses():  # type: ignore[no-untyped-call]
            given = model(example)
        for leaf in tree_leaves(given):
            value = getattr(leaf, _MARK, None)
            if value is not None:
                # What the model hands to its caller is used there.
                value.uses += 1
    return flow


def _entered(pending: list[tuple[Value | None, tuple[int, ...]]], module: nn.Module, args: tuple[Any, ...]) -> None:
    single = args[0] if len(args) == 1 and isinstance(args[0], Tensor) else None
    pending.append((getattr(single, _MARK, None), () if single is None else tuple(single.shape)))


def _left(
    flow: Flow,
    name: str,
    pending: list[tuple[Value | None, tuple[int, ...]]],
    module: nn.Module,
    args: tuple[Any, ...],
    output: Any,
) -> None:
    source, shape = pending.pop()
    value = None
    if isinstance(output, Tensor):
        # A module that gives back what it took, as an in-place ReLU does, marks it anew: the old value ends there.
        value = Value(name)
        setattr(output, _MARK, value)
    flow.calls.setdefault(name, []).append(Call(source, value, shape))
