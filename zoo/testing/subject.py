"""The model under test: making it, feeding it, and putting it back as it was."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import Tensor, nn

from zoo.registry import Flag, ModelSpec, Option
from zoo.registry.options import options_of
from zoo.registry.specs import check_options

CHANNELS = 7
CLASSES = 2


class BrokenContractError(AssertionError):
    """The model breaks its contract; the message says how."""


class NotApplicable(Exception):  # noqa: N818  # no error: the check has nothing to say about this model
    """The check has nothing to check on this model; the message says why."""


def require(condition: bool, message: str) -> None:
    """Raise :class:`BrokenContractError` with the message unless the condition holds."""
    if not condition:
        raise BrokenContractError(message)


class Subject:
    """A registered model, made when it is needed.

    Args:
        spec: what the catalogue knows of it.
        options: keyword arguments beyond the channels and classes.
        factory: called instead of the spec's target; for models that are not importable.
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
        """What makes the model."""
        return self._factory or self.spec.resolve()

    @property
    def declared_options(self) -> tuple[Option, ...]:
        """The options of the model."""
        return options_of(self.factory, self.spec.FIXED)

    @property
    def size(self) -> int:
        """Side of the images that the checks use, in pixels: small, for speed, but never under the minimum."""
        return max(32, self.spec.minimum_size)

    def declares(self, flag: Flag) -> bool:
        """Whether the spec carries the flag."""
        return flag in self.spec.flags

    def make(self, in_channels: int = CHANNELS, classes: int = CLASSES, seed: int = 0, **more: Any) -> nn.Module:
        """A new model in training mode, its weights drawn from ``seed``; the global generator is left as it was."""
        options = check_options(self.spec, self.options | more, self.factory)
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            return self.factory(in_channels=in_channels, classes=classes, **options).train()

    def model(self) -> nn.Module:
        """The model of 7 channels, 2 classes and seed 0 in eval mode, as it was when it was new.

        Made once and restored at each call: building tens of millions of weights for every check is slow.
        """
        if self._model is None:
            self._model = self.make()
            self._initial = {key: value.clone() for key, value in self._model.state_dict().items()}
        self._model.load_state_dict(self._initial)
        self._model.zero_grad(set_to_none=True)
        return self._model.eval()

    def images(
        self, batch: int = 2, channels: int = CHANNELS, height: int | None = None, width: int | None = None
    ) -> Tensor:
        """Standard normal float32 images ``(batch, channels, height, width)``, the same at each call.

        Raises:
            NotApplicable: for a model that cannot predict from images alone.
        """
        if self.declares(Flag.NEEDS_RAIN):
            raise NotApplicable("needs rain: it has no prediction from an image alone")
        generator = torch.Generator().manual_seed(1)
        return torch.randn(batch, channels, height or self.size, width or self.size, generator=generator)
