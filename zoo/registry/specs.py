"""Specs: what the catalogue knows about a model, data set, loss, metric or risk model before it is imported.

A spec is frozen and holds strings, numbers and flags. Its ``target`` names the code and is imported when the thing is
made, so listing hundreds of models imports no torch. Everything else about a thing stands beside its code, once:
options in the signature and docstring of the target (:mod:`zoo.registry.options`), the source of each design choice
of a model in ``PROVENANCE`` of its module.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, fields
from enum import Enum, StrEnum
from importlib import import_module
from typing import Any, ClassVar, Literal

from zoo.errors import ConfigError, PluginError, UnknownNameError
from zoo.registry.options import Option, options_of, takes_any

_NAME = re.compile(r"[a-z0-9][a-z0-9_\-.]*")
_TARGET = re.compile(r"[A-Za-z_][\w.]*:[A-Za-z_][\w.]*")


class Flag(StrEnum):
    """A capability of a model. The contract suite tests that declared flags hold and that undeclared ones fail."""

    EXPORTABLE = "exportable"
    """``torch.export`` of the model in eval mode works with a dynamic batch."""
    BATCH1_TRAINING = "batch1_training"
    """A training step works on a batch of one."""
    PRETRAINED_ENCODER = "pretrained_encoder"
    """The option ``weights`` or ``encoder_weights`` takes a name or a file; without it nothing is downloaded."""
    NAMED_BANDS = "named_bands"
    """The option ``bands`` takes the names of the input's bands; training and bundles pass those of the data."""
    NEEDS_RAIN = "needs_rain"
    """The model cannot predict from an image alone; the benchmark skips it on data without rainfall series."""


@dataclass(frozen=True, slots=True)
class Choice:
    """One design choice of an architecture and its source.

    Attributes:
        mark: ``P`` for the paper, ``S`` for the cited source or its reference code, ``O`` for our own choice.
        what: the choice, in one sentence.
        source: section, equation, table, DOI or reason.
    """

    mark: Literal["P", "S", "O"]
    what: str
    source: str = ""


@dataclass(frozen=True, kw_only=True)
class Spec:
    """What every entry of the catalogue has.

    Attributes:
        name: lower-case name that users type.
        target: ``"package.module:attribute"``, imported only when it is needed.
        summary: one line for the listing.
    """

    KIND: ClassVar[str] = "entry"
    FIXED: ClassVar[tuple[str, ...]] = ()
    """Arguments of the target that zoo passes itself; all others are options."""

    name: str
    target: str
    summary: str

    def __post_init__(self) -> None:
        for label in ("name", "target", "summary"):
            value: object = getattr(self, label)
            if not isinstance(value, str):
                raise PluginError(f"{label} of {self.KIND} {self.name!r} must be text, not {value!r}")
        if not _NAME.fullmatch(self.name):
            raise PluginError(
                f"{self.name!r} is not a valid name for a {self.KIND}",
                hint="Use lower-case letters, digits, '_', '-' and '.'",
            )
        if not _TARGET.fullmatch(self.target):
            raise PluginError(
                f"target {self.target!r} of {self.KIND} {self.name!r} is not of the form 'package.module:attribute'"
            )

    @property
    def kind(self) -> str:
        """``model``, ``data set``, ``loss``, ``metric`` or ``risk model``."""
        return self.KIND

    @property
    def label(self) -> str:
        """Kind and name, for messages: ``model 'unet'``."""
        return f"{self.KIND} {self.name!r}"

    @property
    def options(self) -> tuple[Option, ...]:
        """The options of the target, read from its signature and docstring. Imports the target.

        Raises:
            PluginError: if the target cannot be imported.
        """
        return options_of(self.resolve(), self.FIXED)

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
                f"{self.label} cannot be imported ({error})",
                where=target,
                hint="Install what is missing, or tell the plugin's author",
            ) from error
        for part in attribute.split("."):
            try:
                value = getattr(value, part)
            except AttributeError as error:
                raise PluginError(f"{module_name} has no {attribute!r}", where=self.label) from error
        if not callable(value):
            raise PluginError(f"target {target!r} is not callable", where=self.label)
        return value  # type: ignore[no-any-return]

    def to_dict(self) -> dict[str, object]:
        """The spec as plain JSON values."""
        return {field.name: plain(getattr(self, field.name)) for field in fields(self)}


@dataclass(frozen=True, kw_only=True)
class ModelSpec(Spec):
    """A segmentation architecture.

    The target is called as ``target(in_channels=..., classes=..., **options)`` and returns an ``nn.Module`` that
    maps float32 ``(B, in_channels, H, W)`` to logits ``(B, classes, H, W)`` for any H and W of at least
    ``minimum_size`` pixels.

    Attributes:
        paper: citation of the architecture.
        doi: its DOI, without the resolver.
        parameters: trainable parameters expected at 7 channels, 2 classes and default options.
        gmac: multiply-accumulates in units of 1e9 expected for one 7x128x128 image.
        licence: SPDX identifier of the code.
        minimum_size: smallest height and width in pixels.
        flags: capabilities, as :class:`Flag` or their names.
        encoder_weights: names that the ``weights`` or ``encoder_weights`` option takes.
    """

    KIND: ClassVar[str] = "model"
    FIXED: ClassVar[tuple[str, ...]] = ("in_channels", "classes")

    paper: str = ""
    doi: str = ""
    parameters: int | None = None
    gmac: float | None = None
    licence: str = "Apache-2.0"
    minimum_size: int = 1
    flags: frozenset[Flag] = frozenset()
    encoder_weights: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        super().__post_init__()
        known = [flag.value for flag in Flag]
        for flag in self.flags:
            if flag not in known:
                raise UnknownNameError("flag", str(flag), known, where=self.label)
        object.__setattr__(self, "flags", frozenset(Flag(flag) for flag in self.flags))
        size: object = self.minimum_size
        if isinstance(size, bool) or not isinstance(size, int) or size < 1:
            raise PluginError(f"minimum_size must be a positive integer, not {size!r}", where=self.label)

    @property
    def provenance(self) -> tuple[Choice, ...]:
        """The design choices of the model and their sources: ``PROVENANCE`` of the module of the target.

        ``PROVENANCE`` is a tuple of :class:`Choice`, or a dictionary of such tuples by model name where a module
        holds several models. Imports the target.
        """
        self.resolve()
        found: Any = getattr(import_module(self.target.partition(":")[0]), "PROVENANCE", ())
        choices = found.get(self.name, ()) if isinstance(found, Mapping) else found
        return tuple(choice for choice in choices if isinstance(choice, Choice))


@dataclass(frozen=True, kw_only=True)
class DatasetSpec(Spec):
    """A data set of patches.

    The target is called as ``target(root=..., split=..., transforms=..., **options)`` and returns a
    :class:`zoo.datasets.PatchDataset`. ``progress=...`` is passed as well if the target takes it.

    Attributes:
        channels: band names in order; empty when they depend on the files.
        licence: of the data.
        citation: how to cite it.
        doi: its DOI, without the resolver.
        url: where to get it.
    """

    KIND: ClassVar[str] = "data set"
    FIXED: ClassVar[tuple[str, ...]] = ("root", "split", "transforms", "progress")

    channels: tuple[str, ...] = ()
    licence: str = ""
    citation: str = ""
    doi: str = ""
    url: str = ""


@dataclass(frozen=True, kw_only=True)
class LossSpec(Spec):
    """A training loss. The target is called as ``target(ignore_index=..., **options)`` and returns a callable or
    module that maps logits ``(B, K, H, W)`` and a mask ``(B, H, W)`` of int64 to a scalar tensor."""

    KIND: ClassVar[str] = "loss"
    FIXED: ClassVar[tuple[str, ...]] = ("ignore_index",)


@dataclass(frozen=True, kw_only=True)
class MetricSpec(Spec):
    """A metric that is computed from counts. The target maps int64 arrays ``tp, fp, fn, tn`` of one shape to a
    float64 array of that shape, NaN where it is undefined.

    Attributes:
        higher_is_better: how to sort it.
    """

    KIND: ClassVar[str] = "metric"
    FIXED: ClassVar[tuple[str, ...]] = ("tp", "fp", "fn", "tn")

    higher_is_better: bool = True


@dataclass(frozen=True, kw_only=True)
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

    KIND: ClassVar[str] = "risk model"
    FIXED: ClassVar[tuple[str, ...]] = ("rain", "group", "threads", "seed")

    title: str = ""
    settings: Mapping[str, Any] = field(default_factory=dict)
    needs_rain: bool = False
    in_all: bool = True
    plain: bool = False
    unsupported_reason: str = ""
    source: str = ""


def check_options(spec: Spec, options: Mapping[str, Any], target: Callable[..., Any] | None = None) -> dict[str, Any]:
    """Return the options as the types that the target declares; text from a command line is parsed.

    Args:
        spec: spec of the model, data set or loss.
        options: option values by name.
        target: class or function whose options these are; the target of the spec if not given.

    Raises:
        UnknownNameError: for an option that the target does not take, with the nearest names.
        ConfigError: for a value that does not fit its type or its choices.
        PluginError: if the target cannot be imported.
    """
    if not options:
        return {}
    target = spec.resolve() if target is None else target
    known = {option.name: option for option in options_of(target, spec.FIXED)}
    checked: dict[str, Any] = {}
    for name, value in options.items():
        if name in known:
            try:
                checked[name] = known[name].convert(value)
            except ValueError as reason:
                raise ConfigError(f"option {name!r} cannot be {value!r}", where=spec.label, hint=str(reason)) from None
        elif name in spec.FIXED or not takes_any(target):
            raise UnknownNameError("option", name, known, where=spec.label)
        else:
            checked[name] = value
    return checked


def plain(value: object) -> object:
    """Return the value of a spec's field as plain JSON values."""
    if isinstance(value, Enum):
        return value.value
    if isinstance(value, (set, frozenset)):
        return sorted(str(plain(item)) for item in value)
    if isinstance(value, (list, tuple)):
        return [plain(item) for item in value]
    if isinstance(value, Mapping):
        return {str(key): plain(item) for key, item in value.items()}
    if isinstance(value, Option):
        shown = {"name": value.name, "kind": value.kind, "help": value.help}
        return {**shown, "default": _shown(value.default), "choices": plain(value.choices)}
    if isinstance(value, Choice):
        return {"mark": value.mark, "what": value.what, "source": value.source}
    return value


def _shown(default: object) -> object:
    if default is ...:
        return None
    value = plain(default)
    return value if isinstance(value, (bool, int, float, str, list, dict)) or value is None else repr(value)
