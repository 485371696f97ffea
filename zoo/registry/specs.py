"""What the catalogue knows about a model, data set, loss, metric or risk model before any of it is imported.

Specs are frozen and cheap: strings, numbers and flags. The ``target`` names the code and is imported when the
thing is made, so that listing hundreds of models imports no torch.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, fields
from enum import Enum, StrEnum
from importlib import import_module
from typing import Any, Literal

from zoo.errors import PluginError, ZooError

_NAME = re.compile(r"[a-z0-9][a-z0-9_\-.]*")
_TARGET = re.compile(r"[A-Za-z_][\w.]*:[A-Za-z_][\w.]*")


class Flag(StrEnum):
    """What a model can do. The contract suite proves declared flags true and undeclared ones really failing."""

    EXPORTABLE = "exportable"
    """``torch.export`` of the model in eval mode works with a dynamic batch."""
    BATCH1_TRAINING = "batch1_training"
    """A training step works on a batch of one."""
    PRETRAINED_ENCODER = "pretrained_encoder"
    """Takes ``encoder_weights`` by name; without it nothing is ever downloaded."""
    NEEDS_RAIN = "needs_rain"
    """Cannot predict from an image alone; the benchmark skips it on data without rainfall series."""


@dataclass(frozen=True, slots=True)
class Choice:
    """One decision in an architecture and where it comes from.

    Attributes:
        mark: ``P`` the paper states it, ``S`` the cited source or its reference code, ``O`` our choice.
        what: the decision, in one sentence.
        source: section, equation, table, DOI or reason.
    """

    mark: Literal["P", "S", "O"]
    what: str
    source: str = ""


@dataclass(frozen=True, slots=True)
class Option:
    """A keyword argument beyond ``in_channels`` and ``classes``.

    Attributes:
        name: the keyword.
        default: what is used when it is not given.
        help: what it changes, in one sentence.
        choices: the values it may take; empty when it is open.
    """

    name: str
    default: object
    help: str
    choices: tuple[object, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Spec:
    """What every entry of the catalogue has.

    Attributes:
        name: lower-case name that users type.
        target: ``"package.module:attribute"``, imported only when it is needed.
        summary: one line for the listing.
    """

    name: str
    target: str
    summary: str

    def __post_init__(self) -> None:
        if not _NAME.fullmatch(self.name):
            raise PluginError(
                f"{self.name!r} is no name for a {self.kind}",
                hint="Use lower-case letters, digits, '_', '-' and '.'",
            )
        if not _TARGET.fullmatch(self.target):
            raise PluginError(
                f"target {self.target!r} of {self.kind} {self.name!r} is not of the form 'package.module:attribute'"
            )

    @property
    def kind(self) -> str:
        """``model``, ``data set``, ``loss``, ``metric`` or ``risk model``."""
        return _KINDS.get(type(self).__name__, "entry")

    def resolve(self, target: str | None = None) -> Callable[..., Any]:
        """Import the target.

        Args:
            target: another one of this spec, such as a risk model's ``unsupported_reason``; None for ``self.target``.

        Raises:
            PluginError: if the module cannot be imported or lacks the attribute, with the cause chained.
        """
        target = self.target if target is None else target
        module_name, _, attribute = target.partition(":")
        try:
            value: Any = import_module(module_name)
        except ImportError as error:
            raise PluginError(
                f"{self.kind} {self.name!r} cannot be imported ({error})",
                where=target,
                hint="Install what is missing, or tell the plugin's author",
            ) from error
        for part in attribute.split("."):
            try:
                value = getattr(value, part)
            except AttributeError as error:
                raise PluginError(f"{module_name} has no {attribute!r}", where=f"{self.kind} {self.name!r}") from error
        if not callable(value):
            raise PluginError(f"target {target!r} is not callable", where=f"{self.kind} {self.name!r}")
        return value  # type: ignore[no-any-return]

    def to_dict(self) -> dict[str, object]:
        """The spec as plain JSON values."""
        return {field.name: _plain(getattr(self, field.name)) for field in fields(self)}


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelSpec(Spec):
    """A segmentation architecture.

    The target is called as ``target(in_channels=..., classes=..., **options)`` and returns an ``nn.Module`` that
    maps float32 ``(B, in_channels, H, W)`` to logits ``(B, classes, H, W)`` for any H and W of at least
    ``minimum_size`` pixels.

    Attributes:
        paper: citation of the architecture.
        doi: its DOI, without the resolver.
        provenance: every choice that the paper leaves open, and where ours comes from.
        options: the keyword arguments that the target takes beyond ``in_channels`` and ``classes``.
        parameters: trainable parameters expected at 7 channels, 2 classes and default options.
        gmac: multiply-accumulates in units of 1e9 expected for one 7x128x128 image.
        licence: SPDX identifier of the code.
        minimum_size: smallest height and width in pixels.
        flags: what the model can do.
        encoder_weights: names that the ``encoder_weights`` option takes.
    """

    paper: str = ""
    doi: str = ""
    provenance: tuple[Choice, ...] = ()
    options: tuple[Option, ...] = ()
    parameters: int | None = None
    gmac: float | None = None
    licence: str = "Apache-2.0"
    minimum_size: int = 1
    flags: frozenset[Flag] = frozenset()
    encoder_weights: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class DatasetSpec(Spec):
    """A data set of patches.

    The target is called as ``target(root=..., split=..., transforms=..., **options)`` and returns a
    :class:`zoo.datasets.PatchDataset`.

    Attributes:
        channels: band names in order; empty when they depend on the files.
        licence: of the data.
        citation: how to cite it.
        doi: its DOI, without the resolver.
        url: where to get it.
        options: the keyword arguments that the target takes beyond ``root``, ``split`` and ``transforms``.
    """

    channels: tuple[str, ...] = ()
    licence: str = ""
    citation: str = ""
    doi: str = ""
    url: str = ""
    options: tuple[Option, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class LossSpec(Spec):
    """A training loss. The target is called as ``target(ignore_index=...)`` and returns a callable or module
    that maps logits ``(B, K, H, W)`` and a mask ``(B, H, W)`` of int64 to a scalar tensor."""

    options: tuple[Option, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class MetricSpec(Spec):
    """A metric that is computed from counts. The target maps int64 arrays ``tp, fp, fn, tn`` of one shape to a
    float64 array of that shape, NaN where it is undefined.

    Attributes:
        higher_is_better: how to sort it.
    """

    higher_is_better: bool = True


@dataclass(frozen=True, slots=True, kw_only=True)
class RiskModelSpec(Spec):
    """A risk model on tables of places. The target is called as ``target(rain=..., group=..., threads=..., seed=...,
    **settings)`` and returns a scikit-learn classifier whose ``fit(X, y, inner=None)`` takes a DataFrame, labels and
    folds to choose settings on (:class:`zoo.risk.models.base.RiskModel`).

    Attributes:
        title: as tables print it.
        settings: keyword arguments of the target.
        needs_rain: whether it cannot be fitted without rain intensity and duration.
        in_all: whether ``--models all`` means it too.
        plain: the target is any scikit-learn classifier: called without arguments, fitted as ``fit(X, y)``.
        unsupported_reason: ``"package.module:attribute"`` of a function that takes the features, a DataFrame, and
            returns a sentence that says why the model cannot use them, or None if it can; empty for no such function.
        source: where it comes from.
    """

    title: str = ""
    settings: Mapping[str, Any] = field(default_factory=dict)
    needs_rain: bool = False
    in_all: bool = True
    plain: bool = False
    unsupported_reason: str = ""
    source: str = ""


_KINDS = {
    "ModelSpec": "model",
    "DatasetSpec": "data set",
    "LossSpec": "loss",
    "MetricSpec": "metric",
    "RiskModelSpec": "risk model",
}


def check_options(spec: ModelSpec | DatasetSpec | LossSpec, options: dict[str, Any]) -> None:
    """Refuse options that the spec does not declare and values outside their choices.

    Raises:
        ZooError: naming the option, with the nearest known names or the choices.
    """
    from zoo.errors import UnknownNameError

    declared = {option.name: option for option in spec.options}
    for name, value in options.items():
        if name not in declared:
            if name == "encoder_weights" and isinstance(spec, ModelSpec) and spec.encoder_weights:
                continue
            raise UnknownNameError("option", name, declared, where=f"{spec.kind} {spec.name!r}")
        choices = declared[name].choices
        if choices and _freeze(value) not in {_freeze(choice) for choice in choices}:
            raise ZooError(
                f"option {name!r} cannot be {value!r}",
                where=f"{spec.kind} {spec.name!r}",
                hint="Choose one of " + ", ".join(repr(choice) for choice in choices),
            )


def _freeze(value: object) -> object:
    return tuple(_freeze(item) for item in value) if isinstance(value, (list, tuple)) else value


def _plain(value: object) -> object:
    if isinstance(value, Enum):
        return value.value
    if isinstance(value, (set, frozenset)):
        return sorted(str(_plain(item)) for item in value)
    if isinstance(value, (list, tuple)):
        return [_plain(item) for item in value]
    if isinstance(value, (Choice, Option)):
        return {field.name: _plain(getattr(value, field.name)) for field in fields(value)}
    return value
