"""Catalogue of models, data sets, losses, metrics, risk models and weights, built in or from plugins.

It imports no torch.

>>> from zoo.registry import create_model, list_models
>>> list_models("*unet*")
['drs_unet', 'enhanced_unet', 'unet']
>>> model = create_model("enhanced_unet", in_channels=7, classes=2)
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from functools import lru_cache
from traceback import walk_tb
from typing import TYPE_CHECKING, Any, Literal, Protocol, TypeVar

from zoo.errors import ConfigError, ModelError, PluginError, UnknownNameError, ZooError, one_line
from zoo.jobs import ran_out_of_memory
from zoo.registry.catalogue import AnyTable, Catalogue, Provider
from zoo.registry.families import ModelFamilySpec
from zoo.registry.hookspecs import CommandGroup, hookimpl
from zoo.registry.options import Option, accepts_argument, forwards_options
from zoo.registry.plugins import OWN_DISTRIBUTION, PluginLoader, PluginReport, disabled_plugins, write_disabled
from zoo.registry.session import SESSION, session_models, session_spec, store_session_model
from zoo.registry.specs import (
    Choice,
    DatasetSpec,
    ExporterSpec,
    Flag,
    LossSpec,
    MeasuredFigures,
    MetricSpec,
    ModelSpec,
    ReportSection,
    ReportSectionSpec,
    RiskModelSpec,
    Spec,
    WeightsSpec,
    check_options,
)

if TYPE_CHECKING:
    from torch import Tensor, nn

    from zoo.datasets.base import PatchDataset

__all__ = [
    "Catalogue",
    "Choice",
    "CommandGroup",
    "DatasetSpec",
    "ExporterSpec",
    "Flag",
    "LossSpec",
    "MeasuredFigures",
    "MetricSpec",
    "ModelFamilySpec",
    "ModelSpec",
    "Option",
    "PluginReport",
    "Provider",
    "ReportSection",
    "ReportSectionSpec",
    "RiskModelSpec",
    "WeightsSpec",
    "catalogue",
    "check_logits",
    "check_options",
    "create_dataset",
    "create_loss",
    "create_model",
    "create_model_for",
    "disable_plugin",
    "enable_plugin",
    "forwards_options",
    "hookimpl",
    "list_datasets",
    "list_losses",
    "list_metrics",
    "list_models",
    "list_plugins",
    "list_weights",
    "plugin_reports",
    "provider_of",
    "register_commands",
    "register_model",
    "reload",
]


Kind = Literal["model", "dataset", "loss", "metric", "risk_model", "weights"]
Target = TypeVar("Target", bound=Callable[..., Any])


class _Named(Protocol):
    """A band, as a protocol, because the registry must not import the packages above it."""

    @property
    def name(self) -> str: ...


def __getattr__(name: str) -> Any:
    if name == "ComparatorSpec":
        warnings.warn(
            "ComparatorSpec is now called RiskModelSpec; the old name will be removed in release 0.3",
            FutureWarning,
            stacklevel=2,
        )
        return RiskModelSpec
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


@lru_cache(maxsize=1)
def _loader() -> PluginLoader:
    loader = PluginLoader.from_environment()
    loader.load()
    for spec in session_models():
        loader.catalogue.models.add(spec, SESSION)
    return loader


def catalogue() -> Catalogue:
    """Return everything that is registered; the first call loads the plugins."""
    return _loader().catalogue


def plugin_reports() -> list[PluginReport]:
    """Return the state of every installed plugin."""
    return list(_loader().reports)


def provider_of(kind: Kind, name: str) -> Provider:
    """Return the plugin that registered a name, with its distribution and version.

    Args:
        kind: ``model``, ``dataset``, ``loss``, ``metric``, ``risk_model`` or ``weights``.
        name: registered name.

    Raises:
        UnknownNameError: if there is no such name.
    """
    tables: dict[Kind, AnyTable] = {
        "model": catalogue().models,
        "dataset": catalogue().datasets,
        "loss": catalogue().losses,
        "metric": catalogue().metrics,
        "risk_model": catalogue().risk_models,
        "weights": catalogue().weights,
    }
    return _loader().provider(tables[kind].provider(name))


def register_commands(app: CommandGroup) -> None:
    """Let the plugins add their commands to the ``click.Group`` ``app``."""
    _loader().register_commands(app)


def reload() -> None:
    """Discard the loaded plugins, so that the next call reads the environment again."""
    _loader.cache_clear()


def register_model(
    name: str,
    *,
    summary: str = "",
    minimum_size: int = 1,
    flags: Iterable[Flag | str] = (),
    parameters: int | None = None,
    paper: str = "",
    doi: str = "",
    licence: str = "",
    replace: bool = False,
) -> Callable[[Target], Target]:
    """Register a model for this session by decorating its class or factory function.

    The name then works in ``create_model``, ``list_models``, ``train`` and ``benchmark``. Benchmarks and training run
    in child processes, which import the class by its module and name, so it must be in an importable file. A class
    defined in a notebook cell or in the main script works only in this process.

    Args:
        name: lower-case name.
        summary: one line for the listing; the first line of the docstring if empty.
        minimum_size: smallest height and width in pixels.
        flags: capabilities, see :class:`Flag`.
        parameters: expected number of trainable parameters for 7 channels and 2 classes.
        paper: citation of the architecture.
        doi: its DOI.
        licence: SPDX identifier of the code.
        replace: replace a model registered under the same name in this session, for example when a notebook cell is
            run again.

    Raises:
        PluginError: if the name is taken or not valid.
        UnknownNameError: for a flag that does not exist.

    >>> import zoo
    >>> @zoo.register_model("my_net", minimum_size=16)
    ... class MyNet(nn.Module): ...                                         # doctest: +SKIP
    """

    def decorate(target: Target) -> Target:
        spec = session_spec(
            target,
            name=name,
            summary=summary,
            minimum_size=minimum_size,
            flags=frozenset(flags),
            parameters=parameters,
            paper=paper,
            doi=doi,
            licence=licence,
        )
        models = catalogue().models
        if replace and spec.name in models and models.provider(spec.name) == SESSION:
            models.remove(spec.name)
        models.add(spec, SESSION)
        store_session_model(spec)
        return target

    return decorate


def list_models(pattern: str | None = None) -> list[str]:
    """Return the names of the registered models that match a shell pattern such as ``*unet*``, sorted.

    Models of families, such as ``smp/unet-resnet34``, are included.
    """
    return catalogue().models.names(pattern)


def list_datasets(pattern: str | None = None) -> list[str]:
    """Return the names of the registered data sets that match a shell pattern, sorted."""
    return [spec.name for spec in catalogue().datasets.match(pattern)]


def list_losses(pattern: str | None = None) -> list[str]:
    """Return the names of the registered losses that match a shell pattern, sorted."""
    return [spec.name for spec in catalogue().losses.match(pattern)]


def list_metrics(pattern: str | None = None) -> list[str]:
    """Return the names of the registered metrics that match a shell pattern, sorted."""
    return [spec.name for spec in catalogue().metrics.match(pattern)]


def list_weights(pattern: str | None = None) -> list[str]:
    """Return the names of the registered weights that match a shell pattern such as ``unet/*``, sorted."""
    return [spec.name for spec in catalogue().weights.match(pattern)]


def list_plugins() -> list[PluginReport]:
    """Return one report for every installed plugin: what it provides, or why it failed."""
    return plugin_reports()


def disable_plugin(name: str) -> None:
    """Disable a plugin; its name is kept in ``$ZOO_CONFIG/plugins.json`` or ``~/.config/landslide-zoo``.

    Args:
        name: name of the plugin or of its distribution, as ``zoo plugins`` lists it.

    Raises:
        UnknownNameError: if no such plugin is installed.
        ConfigError: if it is part of landslide-zoo.
        ZooError: if the file cannot be written.
    """
    if name.partition("/")[0] == OWN_DISTRIBUTION:
        raise ConfigError("a part of landslide-zoo cannot be disabled", where=name)
    installed = {report.name for report in plugin_reports()} | {report.distribution for report in plugin_reports()}
    if name not in installed:
        raise UnknownNameError(
            "plugin", name, [plugin for plugin in installed if not plugin.startswith(OWN_DISTRIBUTION)]
        )
    write_disabled(disabled_plugins() | {name})
    reload()


def enable_plugin(name: str) -> None:
    """Enable a plugin that :func:`disable_plugin` disabled.

    Args:
        name: the name with which it was disabled.

    Raises:
        UnknownNameError: if no plugin was disabled under this name.
        ZooError: if the file cannot be written.
    """
    disabled = disabled_plugins()
    if name not in disabled:
        raise UnknownNameError("disabled plugin", name, disabled)
    write_disabled(disabled - {name})
    reload()


def create_model(name: str, in_channels: int = 7, classes: int = 2, **options: Any) -> nn.Module:
    """Create a registered model with random weights.

    Args:
        name: name of the model, as ``zoo models`` lists it.
        in_channels: bands of the input; 7 is the paper's stack with the LSI.
        classes: channels of the logits; 2 is background and landslide.
        options: options of the model, as ``zoo models show NAME`` lists them.

    Returns:
        A module that maps float32 ``(B, in_channels, H, W)`` to logits ``(B, classes, H, W)``.

    Raises:
        UnknownNameError: for a name or an option that does not exist.
        ConfigError: if a count is not a positive integer, or the value of an option does not fit.
        PluginError: if the target cannot be imported.

    >>> model = create_model("unet", in_channels=4, widths=(8, 16, 32))
    """
    spec = catalogue().models.get(name)
    for label, count in (("in_channels", in_channels), ("classes", classes)):
        if isinstance(count, bool) or not isinstance(count, int) or count < 1:
            raise ConfigError(f"{label} must be a positive integer, not {count!r}", where=spec.label)
    checked = check_options(spec, options)
    model: nn.Module = spec.resolve()(in_channels=in_channels, classes=classes, **checked)
    _check_members(spec, model, ("parameters", "state_dict"), "an nn.Module")
    return model


def create_model_for(name: str, bands: Sequence[_Named], classes: int = 2, /, **options: Any) -> nn.Module:
    """Create a registered model for an input whose bands are known.

    A model with :attr:`Flag.NAMED_BANDS` gets the names of the bands, unless ``options`` overrides them; all other
    models get only the number of bands.

    Args:
        name: name of the model.
        bands: bands of the input, in order.
        classes: channels of the logits.
        options: options of the model.

    Raises:
        ZooError: as :func:`create_model`.
    """
    if Flag.NAMED_BANDS in catalogue().models.get(name).flags:
        options = {"bands": tuple(band.name for band in bands), **options}
    return create_model(name, len(bands), classes, **options)


def create_dataset(name: str, split: str = "train", **options: Any) -> PatchDataset:
    """Open one split of a registered data set.

    Args:
        name: name of the data set, as ``zoo datasets`` lists it.
        split: ``train``, ``val`` or ``test``.
        options: ``root``, ``transforms``, ``progress``, and the options that ``zoo datasets show NAME`` lists.

    Raises:
        UnknownNameError: for a name or an option that does not exist.
        ConfigError: for a split that does not exist, or a value of an option that does not fit.
        DataError: if the data are missing or invalid.
    """
    spec = catalogue().datasets.get(name)
    if split not in ("train", "val", "test"):
        raise ConfigError(f"split must be train, val or test, not {split!r}", where=spec.label)
    common = {option: options[option] for option in ("root", "transforms", "progress") if option in options}
    checked = check_options(spec, {option: value for option, value in options.items() if option not in common})
    target = spec.resolve()
    if "progress" in common and not accepts_argument(target, "progress"):
        del common["progress"]
    with _attribute_errors("dataset", spec):
        dataset: PatchDataset = target(split=split, **common, **checked)
        wanted = ("bands", "patches", "split", "read", "fingerprint")
        _check_members(
            spec, dataset, wanted, "a zoo.datasets.PatchDataset; its constructor sets bands, patches and split"
        )
        for values, member, kind in ((dataset.bands, "unit", "zoo.physics.Band"), (dataset.patches, "group", "Patch")):
            if not all(hasattr(one, member) for one in values[:1]):
                raise PluginError(f"holds {values[0]!r} where a {kind} belongs", where=spec.label)
        if dataset.patches and provider_of("dataset", name).distribution != OWN_DISTRIBUTION:
            dataset[0]  # report arrays of a wrong shape here, not where they are used
    return dataset


def create_loss(name: str, ignore_index: int = 255, **options: Any) -> Callable[[Tensor, Tensor], Tensor]:
    """Create a registered loss.

    Args:
        name: name of the loss, as ``zoo.list_losses()`` lists it.
        ignore_index: mask value of pixels that are ignored.
        options: options of the loss, such as ``gamma`` of the focal loss.

    Returns:
        A callable that maps logits ``(B, K, H, W)`` and a mask ``(B, H, W)`` of int64 to a scalar tensor; a module
        if the loss is one.

    Raises:
        UnknownNameError: for a name or an option that does not exist.
        ConfigError: if the value of an option does not fit.
        PluginError: if the target cannot be imported.
    """
    spec = catalogue().losses.get(name)
    checked = check_options(spec, options)
    target = spec.resolve()
    with _attribute_errors("loss", spec):
        loss: Callable[[Tensor, Tensor], Tensor] = target(ignore_index=ignore_index, **checked)
        _check_members(spec, loss, ("__call__",), "a function of logits and mask")
    return loss


def check_logits(output: Any, images: Tensor, classes: int, when: str = "") -> Tensor:
    """Return the output of a model after checking that it is a tensor of logits for the images.

    Args:
        output: return value of ``forward``.
        images: argument of ``forward``.
        classes: expected channels of the logits.
        when: circumstances for the message, such as ``in training mode``.

    Raises:
        ModelError: if it is not; the message states what was returned and what was expected.
    """
    expected = (len(images), classes, *images.shape[2:])
    found = "None" if output is None else f"a {type(output).__name__}"
    if isinstance(output, type(images)):
        logits: Tensor = output
        if tuple(logits.shape) == expected:
            return logits
        found = f"shape {tuple(logits.shape)}"
    place = f"{when}, for images of shape" if when else "for images of shape"
    raise ModelError(
        f"forward returned {found} {place} {tuple(images.shape)}",
        hint=f"Return logits of shape (B, K, H, W), here {expected}",
    )


@contextmanager
def _attribute_errors(kind: Kind, spec: Spec) -> Iterator[None]:
    """Name the plugin whose code fails in the block; errors for users and errors in zoo's own code pass unchanged."""
    try:
        yield
    except (Exception, SystemExit) as error:
        provider = provider_of(kind, spec.name)
        if isinstance(error, ZooError) or ran_out_of_memory(error) or provider.distribution == OWN_DISTRIBUTION:
            raise
        raise PluginError(_failure(provider, error), where=spec.label) from error


@contextmanager
def plugin_errors() -> Iterator[None]:
    """Name the plugin whose code raises in the block; errors for users and memory errors pass unchanged.

    Raises:
        PluginError: for any other exception from the code of a plugin, including ``SystemExit``.
    """
    try:
        yield
    except KeyboardInterrupt:
        raise
    except BaseException as error:
        if isinstance(error, ZooError) or ran_out_of_memory(error):
            raise
        found = plugin_error(error)
        if found is None:
            raise
        raise found from error


def plugin_error(error: BaseException) -> PluginError | None:
    """Return an error that names the plugin whose code an exception passed through; ``None`` if there is none.

    Args:
        error: an exception that was raised.
    """
    modules = [str(frame.f_globals.get("__name__", "")) for frame, _ in walk_tb(error.__traceback__)]
    provider = _loader().owner(reversed(modules))
    return None if provider is None else PluginError(_failure(provider, error))


def _failure(provider: Provider, error: BaseException) -> str:
    plugin = f"plugin {provider.plugin} {provider.version}".rstrip() if provider.distribution else "this session"
    return f"the code of {plugin} failed ({one_line(error)})"


def _check_members(spec: Spec, made: object, members: Sequence[str], expected: str) -> None:
    """Check the object that a target returned by its attributes, because the registry must not import its class."""
    lacking = [member for member in members if not hasattr(made, member)]
    if lacking:
        kind = "None" if made is None else f"a {type(made).__name__} without {lacking[0]}"
        raise PluginError(f"{spec.target} returned {kind}", where=spec.label, hint=f"Return {expected}")
