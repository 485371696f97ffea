"""The model that the contract suite tests, and a block without network access."""

from __future__ import annotations

import logging
import socket
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any
from unittest.mock import patch

import torch
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode

from zoo.registry import Flag, ModelSpec, Option
from zoo.registry.options import options_of
from zoo.registry.specs import check_options

CHANNELS = 7
CLASSES = 2
DRAWN = 65_537
"""Random numbers that are drawn for a larger tensor; a prime, so that rows and filters differ."""


class CheckFailedError(AssertionError):
    """The model breaks its contract; the message states how and what to do."""


class CheckSkipped(Exception):  # noqa: N818  # not an error: there is nothing to check
    """A check does not apply to the model; the message gives the reason."""


class NetworkRefusedError(OSError):
    """A connection was attempted where none is allowed."""


def require(condition: bool, problem: str, hint: str = "") -> None:
    """Raise :class:`CheckFailedError` with the problem and a hint unless the condition holds."""
    if not condition:
        raise CheckFailedError(f"{problem}; {hint}" if hint else problem)


_RANDOM = (torch.ops.aten.uniform_.default, torch.ops.aten.normal_.default)


class _RepeatedRandomNumbers(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """Fills large tensors with repetitions of fewer random numbers, because drawing tens of millions takes seconds."""

    def __torch_dispatch__(
        self, function: Any, types: Any, args: Sequence[Any] = (), kwargs: Mapping[str, Any] | None = None
    ) -> Any:
        if function not in _RANDOM or args[0].numel() < 2 * DRAWN or not args[0].is_contiguous():
            return function(*args, **(kwargs or {}))
        numbers = args[0].view(-1)
        drawn = function(numbers.new_empty(DRAWN), *args[1:], **(kwargs or {}))
        rest = len(numbers) % DRAWN
        numbers[rest:].view(-1, DRAWN).copy_(drawn)
        numbers[:rest].copy_(drawn[:rest])
        return args[0]


class ModelUnderTest:
    """A registered model, created on first use.

    Args:
        spec: spec of the model.
        options: options of the model.
        factory: function to call instead of the spec's target, for models that cannot be imported.
    """

    def __init__(
        self,
        spec: ModelSpec,
        options: Mapping[str, Any] | None = None,
        factory: Callable[..., nn.Module] | None = None,
    ) -> None:
        self.spec = spec
        self.options = dict(options or {})
        self._factory = factory
        self._model: nn.Module | None = None
        self._initial: dict[str, Tensor] = {}

    @property
    def factory(self) -> Callable[..., nn.Module]:
        """The class or function that creates the model."""
        return self._factory or self.spec.resolve()

    @property
    def declared_options(self) -> tuple[Option, ...]:
        """The options that the model takes."""
        return options_of(self.factory, self.spec.FIXED)

    @property
    def size(self) -> int:
        """Height and width of the test images in pixels: 32, or the minimum size if that is larger."""
        return max(32, self.spec.minimum_size)

    def declares(self, flag: Flag) -> bool:
        """Return whether the spec has the flag."""
        return flag in self.spec.flags

    def create(self, in_channels: int = CHANNELS, classes: int = CLASSES, seed: int = 0, **more: Any) -> nn.Module:
        """Create the model in training mode with the random seed ``seed``; the global generator is unchanged.

        The random numbers of large weights repeat.
        """
        options = check_options(self.spec, self.options | more, self.factory)
        with torch.random.fork_rng(devices=[]), _RepeatedRandomNumbers():  # type: ignore[no-untyped-call]
            torch.manual_seed(seed)
            made: object = self.factory(in_channels=in_channels, classes=classes, **options)
        found = "None" if made is None else f"a {type(made).__name__}"
        require(isinstance(made, nn.Module), f"{self.spec.target} returned {found}", "return an nn.Module")
        assert isinstance(made, nn.Module)
        return made.train()

    def model(self) -> nn.Module:
        """Return the model for 7 channels, 2 classes and seed 0 in eval mode, with its initial weights.

        It is created once and restored at each call, because initialising tens of millions of weights is slow.
        """
        if self._model is None:
            self._model = self.create()
            self._initial = {key: value.clone() for key, value in self._model.state_dict().items()}
        self._model.load_state_dict(self._initial)
        self._model.zero_grad(set_to_none=True)
        return self._model.eval()

    def images(
        self, batch: int = 2, channels: int = CHANNELS, height: int | None = None, width: int | None = None
    ) -> Tensor:
        """Return standard normal float32 images ``(batch, channels, height, width)``, the same at each call.

        Raises:
            CheckSkipped: for a model that cannot predict from images alone.
        """
        if self.declares(Flag.NEEDS_RAIN):
            raise CheckSkipped("the model needs rain and cannot predict from only an image")
        generator = torch.Generator().manual_seed(1)
        return torch.randn(batch, channels, height or self.size, width or self.size, generator=generator)


@contextmanager
def no_network() -> Iterator[list[str]]:
    """Block connections and name look-ups inside the ``with`` block.

    ``time.sleep`` returns immediately, so that retries do not wait. Warnings in logs, such as those of huggingface_hub
    about the refused connections, are not printed.

    Yields:
        A list that collects every blocked destination, even if the caller catches the error.
    """
    refused: list[str] = []

    def refuse(*destination: Any, **_: Any) -> Any:
        refused.append(" ".join(str(part) for part in destination if isinstance(part, (str, int, tuple))))
        raise NetworkRefusedError("no network here")

    with (
        patch.object(socket, "getaddrinfo", refuse),
        patch.object(socket, "create_connection", refuse),
        patch.object(socket.socket, "connect", refuse),
        patch.object(socket.socket, "connect_ex", refuse),
        patch.object(time, "sleep", lambda seconds: None),
    ):
        before = logging.root.manager.disable
        logging.disable(max(before, logging.WARNING))
        try:
            yield refused
        finally:
            logging.disable(before)
