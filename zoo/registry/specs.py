"""Specs: metadata of models, data sets, losses, metrics, risk models and weights in the catalogue.

A spec is frozen and holds strings, numbers and flags. Its ``target`` names the code and is imported only on use, so
listing hundreds of models imports no torch. Weights have no code; their spec has a location. Everything else is defined
once, in the code: options in the signature and docstring of the target (:mod:`zoo.registry.options`), and the source of
each design choice of a model in ``PROVENANCE`` of its module.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, fields
from enum import Enum, StrEnum
from functools import cache
from importlib import import_module
from typing import Any, ClassVar, Literal, get_type_hints

from zoo.errors import ConfigError, PluginError, UnknownNameError, one_line
from zoo.registry.options import Option, accepts_any_argument, describe, matches_type, options_of

_PART = r"[a-z0-9][a-z0-9_\-.]*"
_NAME = re.compile(rf"{_PART}(?:/{_PART})?")
_WEIGHTS_NAME = re.compile(rf"{_PART}(/{_PART})+")
_PACKAGE = re.compile(r"[A-Za-z_][\w.]*:[^:\\]+")
_HUB = re.compile(r"hf://[\w.\-]+/[\w.\-]+@[\w.\-/]+")
_SHA256 = re.compile(r"[0-9a-f]{64}")
_TARGET = re.compile(r"[A-Za-z_][\w.]*:[A-Za-z_][\w.]*")


class Flag(StrEnum):
    """A capability of a model. The contract suite tests that declared flags hold and that undeclared flags do not."""

    EXPORTABLE = "exportable"
    """``torch.export`` of the model in eval mode works with a dynamic batch."""
    BATCH1_TRAINING = "batch1_training"
    """A training step works on a batch of one."""
    PRETRAINED_ENCODER = "pretrained_encoder"
    """The option ``weights`` or ``encoder_weights`` takes a name or a file; by default nothing is downloaded."""
    NAMED_BANDS = "named_bands"
    """The option ``bands`` takes the names of the input's bands; training and bundles pass those of the data."""
    UNTRAINED = "untrained"
    """The model has no parameters. Instead of being trained, it gets the images of the training split without masks in
    its method ``calibrate``, and its threshold stays 0.5. With ``takes_units = True``, images are not normalised."""
    NEEDS_RAIN = "needs_rain"
    """The model cannot predict from only an image; the benchmark skips it on data without rainfall series."""


_FLAGS = [flag.value for flag in Flag]


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
class Entry:
    """Base class of the entries of the catalogue.

    Attributes:
        name: lower-case name that users type.
        summary: one line for the listing.
    """

    KIND: ClassVar[str] = "entry"

    name: str
    summary: str

    def __post_init__(self) -> None:
        kind: Any = type(self)
        for label, annotation in _types(kind).items():
            value: object = getattr(self, label)
            if not matches_type(value, annotation):
                expected = describe(annotation)
                raise PluginError(f"{label} of {self.KIND} {self.name!r} must be {expected}, not {value!r}")
        self._check_name()

    def _check_name(self) -> None:
        if not _NAME.fullmatch(self.name):
            raise PluginError(
                f"{self.name!r} is not a valid name for a {self.KIND}",
                hint="Use lower-case letters, digits, '_', '-' and '.', and at most one '/' between two such parts",
            )

    @property
    def kind(self) -> str:
        """``model``, ``data set``, ``loss``, ``metric``, ``risk model`` or ``weights``."""
        return self.KIND

    @property
    def label(self) -> str:
        """Kind and name, for messages: ``model 'unet'``."""
        return f"{self.KIND} {self.name!r}"

    def to_dict(self) -> dict[str, object]:
        """Return the spec as plain JSON values."""
        return {field.name: plain(getattr(self, field.name)) for field in fields(self)}


@dataclass(frozen=True, kw_only=True)
class Spec(Entry):
    """An entry of the catalogue that is implemented in code.

    Attributes:
        target: ``"package.module:attribute"``, imported on use.
    """

    FIXED: ClassVar[tuple[str, ...]] = ()
    """Arguments of the target that zoo passes; all others are options."""

    target: str

    def __post_init__(self) -> None:
        super().__post_init__()
        if not _TARGET.fullmatch(self.target):
            raise PluginError(
                f"target {self.target!r} of {self.KIND} {self.name!r} is not of the form 'package.module:attribute'"
            )

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
            target: another target of the spec, such as a risk model's ``unsupported_reason``; None for ``self.target``.

        Raises:
            PluginError: if the module cannot be imported or lacks the attribute, with the cause chained.
        """
        target = self.target if target is None else target
        module_name, _, attribute = target.partition(":")
        try:
            value: Any = import_module(module_name)
        except (Exception, SystemExit) as error:
            reason = str(error) if isinstance(error, ImportError) else one_line(error)
            raise PluginError(
                f"{self.label} cannot be imported ({reason})",
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


@dataclass(frozen=True, kw_only=True)
class ModelSpec(Spec):
    """A segmentation architecture.

    The target is called as ``target(in_channels=..., classes=..., **options)`` and returns an ``nn.Module`` that
    maps float32 ``(B, in_channels, H, W)`` to logits ``(B, classes, H, W)`` for any H and W of at least
    ``minimum_size`` pixels.

    Attributes:
        paper: citation of the architecture.
        doi: its DOI, without the resolver.
        parameters: expected number of trainable parameters for 7 channels, 2 classes and default options.
        gmac: expected multiply-accumulates for one 7x128x128 image, in units of 1e9.
        licence: SPDX identifier of the code.
        minimum_size: smallest height and width in pixels.
        flags: capabilities, as :class:`Flag` or their names.
        needs_bands: names of bands without which the model cannot predict; the benchmark skips it on other data.
        encoder_weights: names that the ``weights`` or ``encoder_weights`` option accepts.
        encoder_weights_licence: licence of these weights; empty if it is unknown.
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
    needs_bands: tuple[str, ...] = ()
    encoder_weights: tuple[str, ...] = ()
    encoder_weights_licence: str = ""

    def __post_init__(self) -> None:
        if isinstance(self.flags, (set, frozenset, list, tuple)):
            for flag in self.flags:
                if flag not in _FLAGS:
                    raise UnknownNameError("flag", str(flag), _FLAGS, where=self.label)
        super().__post_init__()
        object.__setattr__(self, "flags", frozenset(Flag(flag) for flag in self.flags))
        if self.minimum_size < 1:
            raise PluginError(f"minimum_size must be a positive integer, not {self.minimum_size}", where=self.label)

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
        channels: band names in order; empty if they depend on the files.
        licence: licence of the data.
        citation: citation of the data set.
        doi: its DOI, without the resolver.
        url: address of the data set.
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
        higher_is_better: whether higher values are better.
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
        title: title in tables.
        settings: keyword arguments of the target.
        needs_rain: whether it needs rain intensity and duration.
        in_all: whether ``--models all`` includes it.
        plain: whether the target is a plain scikit-learn classifier, created without arguments and fitted as ``fit(X,
            y)``.
        unsupported_reason: ``"package.module:attribute"`` of a function that takes the features, a DataFrame, and
            returns in a sentence why the model cannot use them, or None if it can; empty if there is no such function.
        source: publication or software of the model.
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


@dataclass(frozen=True, kw_only=True)
class MeasuredFigures:
    """Figures of trained weights on a split or on one of its scenes, pooled over all pixels.

    Attributes:
        data: name of the data set.
        split: ``train``, ``val`` or ``test``, or a description such as ``held-out blocks``.
        group: scene or event; ``None`` for the whole split.
        adapted: whether the normalisation statistics were re-estimated on the measured images first, without labels
            (``zoo adapt``).
        dice: pooled Dice; ``None`` where it is undefined, as for the next three.
        precision: TP / (TP + FP).
        recall: TP / (TP + FN).
        iou: TP / (TP + FP + FN).
        dice_interval: 95 % interval of the Dice; ``None`` if there is none.
        patches: number of patches; 0 if it is unknown.

    Raises:
        ValueError: if a share is not a number from 0 to 1.
    """

    data: str = ""
    split: str = "test"
    group: str | None = None
    adapted: bool = False
    dice: float | None = None
    precision: float | None = None
    recall: float | None = None
    iou: float | None = None
    dice_interval: tuple[float, float] | None = None
    patches: int = 0

    def __post_init__(self) -> None:
        named = {name: getattr(self, name) for name in ("dice", "precision", "recall", "iou")}
        ends = self.dice_interval or ()
        for name, value in {**named, **dict(zip(("lower end", "upper end"), ends, strict=False))}.items():
            if value is not None and not (_is_number(value) and 0 <= value <= 1):
                raise ValueError(f"{name} is {value!r}, expected a number from 0 to 1")
        if ends and ends[0] > ends[1]:
            raise ValueError(f"dice_interval is {list(ends)}, expected two increasing numbers from 0 to 1")


@dataclass(frozen=True, kw_only=True)
class WeightsSpec(Entry):
    """Trained weights: a bundle with a name.

    The fields repeat the contents of the bundle, so that ``zoo weights`` can list weights that are not on this machine
    yet. When the weights are used, zoo compares model, bands and checksum with the bundle and rejects weights that
    differ.

    Attributes:
        name: ``family/data``, such as ``unet/landslide4sense-rgb``.
        location: where the bundle is: ``package:path`` of a folder or ``.zip`` inside an installed package,
            ``https://...`` of a ``.zip``, or ``hf://owner/repo@revision``.
        model: registered name of the architecture.
        options: keyword arguments of the architecture.
        bands: name and unit of each band of the input, in order, such as ``("red", "1")``.
        pixel_size: side of a pixel of the training data in metres; ``None`` if unknown.
        class_names: names of the classes, in the order of the logits' channels.
        threshold: landslide probability at or above which a pixel counts as landslide.
        data: what the weights were trained on.
        licence: licence of the weights and of the data that they come from.
        size: size of the file or download in bytes.
        sha256: checksum of the ``.zip`` file, or of ``model.safetensors`` where the location is a folder or a hub
            repository. An https location needs it.
        figures: measured figures, each with its split.
        limits: known limits, one sentence each.
    """

    KIND: ClassVar[str] = "weights"

    location: str
    model: str
    bands: tuple[tuple[str, str], ...]
    threshold: float
    options: Mapping[str, Any] = field(default_factory=dict)
    pixel_size: float | None = None
    class_names: tuple[str, ...] = ("background", "landslide")
    data: str = ""
    licence: str = ""
    size: int | None = None
    sha256: str = ""
    figures: tuple[MeasuredFigures, ...] = ()
    limits: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        listed = isinstance(self.bands, (tuple, list)) and len(self.bands) > 0
        if not listed or not all(
            isinstance(band, tuple) and len(band) == 2 and all(isinstance(part, str) for part in band)
            for band in self.bands
        ):
            raise PluginError("bands must be pairs of name and unit", where=self.label, hint='Such as (("red", "1"),)')
        super().__post_init__()
        web, hub = self.location.startswith(("https://", "http://")), self.location.startswith("hf://")
        if not (web or (_HUB if hub else _PACKAGE).fullmatch(self.location)):
            raise PluginError(
                f"location {self.location!r} is not valid",
                where=self.label,
                hint="Give package:path, https://.../bundle.zip or hf://owner/repo@revision",
            )
        if (self.sha256 or web) and not _SHA256.fullmatch(self.sha256):
            raise PluginError(f"sha256 must be 64 lower-case hexadecimal digits, not {self.sha256!r}", where=self.label)
        if not (_is_number(self.threshold) and 0 <= self.threshold <= 1):
            raise PluginError(f"threshold must be a number from 0 to 1, not {self.threshold!r}", where=self.label)
        for name in ("pixel_size", "size"):
            value = getattr(self, name)
            if value is not None and not (_is_number(value) and value > 0):
                raise PluginError(f"{name} must be a positive number, not {value!r}", where=self.label)

    def _check_name(self) -> None:
        if not _WEIGHTS_NAME.fullmatch(self.name):
            raise PluginError(
                f"{self.name!r} is not a valid name for weights",
                hint="Give family/data, such as unet/landslide4sense-rgb: lower-case letters, digits, '_', '-' and '.'",
            )


@dataclass(frozen=True, kw_only=True)
class ExporterSpec(Spec):
    """A format of ``zoo export``. The target is called as ``target(model=..., sample=..., texts=..., path=...)``.

    The target writes the file ``path``. ``model`` is in eval mode on the CPU and maps float32 images ``(B, C, H, W)``
    to its output for any B, H and W; ``sample`` is a batch of images; ``texts`` is the metadata, which the file must
    store. zoo then opens the file with ``opener``, compares its outputs with those of the model, and discards the file
    if they differ.

    Attributes:
        suffix: suffix of the files, such as ``.pt``.
        opener: ``"package.module:attribute"`` of a function that takes the path of a file, and returns a callable that
            maps images to outputs, and the metadata of the file.
    """

    KIND: ClassVar[str] = "exporter"
    FIXED: ClassVar[tuple[str, ...]] = ("model", "sample", "texts", "path")
    TAKEN: ClassVar[tuple[str, ...]] = ("onnx", "openvino", "torch-export", ".onnx", ".xml", ".pt2")
    """Built-in formats and suffixes."""

    suffix: str
    opener: str

    def __post_init__(self) -> None:
        super().__post_init__()
        if not re.fullmatch(r"\.[a-z0-9]+", self.suffix):
            raise PluginError(f"suffix must be a dot and letters, not {self.suffix!r}", where=self.label)
        for value in (self.name, self.suffix):
            if value in self.TAKEN:
                raise PluginError(
                    f"zoo writes {value!r} itself", where=self.label, hint="Choose another name and suffix"
                )


@dataclass(frozen=True)
class ReportSection:
    """A section that a plugin adds to the HTML report. All text is shown verbatim; markup is not interpreted.

    Attributes:
        title: heading.
        text: one paragraph.
        headings: headings of a table; empty for no table.
        rows: rows of the table, as strings.
    """

    title: str
    text: str = ""
    headings: tuple[str, ...] = ()
    rows: tuple[tuple[str, ...], ...] = ()


@dataclass(frozen=True, kw_only=True)
class ReportSectionSpec(Spec):
    """A section of the HTML report. The target is called as ``target(board)`` for every leaderboard of a report
    (:class:`zoo.bench.leaderboard.Leaderboard`), and returns a :class:`ReportSection`, or None for no section."""

    KIND: ClassVar[str] = "report section"
    FIXED: ClassVar[tuple[str, ...]] = ("board",)


@cache
def _types(kind: Any) -> dict[str, Any]:
    """Return the types of the fields of a spec."""
    hints = get_type_hints(kind)
    return {field.name: hints[field.name] for field in fields(kind)}


def _is_number(value: object) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool)


def check_options(spec: Spec, options: Mapping[str, Any], target: Callable[..., Any] | None = None) -> dict[str, Any]:
    """Return the options converted to the types that the target declares; strings from a command line are parsed.

    Args:
        spec: spec of the model, data set or loss.
        options: option values by name.
        target: class or function that takes the options; the target of the spec if not given.

    Raises:
        UnknownNameError: for an option that the target does not take; the message lists the nearest names.
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
        elif name in spec.FIXED or not accepts_any_argument(target):
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
        return {**shown, "default": _plain_default(value.default), "choices": plain(value.choices)}
    if isinstance(value, (Choice, MeasuredFigures)):
        return {field.name: plain(getattr(value, field.name)) for field in fields(value)}
    return value


def _plain_default(default: object) -> object:
    if default is ...:
        return None
    value = plain(default)
    return value if isinstance(value, (bool, int, float, str, list, dict)) or value is None else repr(value)
