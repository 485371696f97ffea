"""Read published weights and adapt them to a model with other bands.

This module is used only if the option ``weights`` is set.
"""

from __future__ import annotations

import re
import warnings
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file
from torch import Tensor, nn

from zoo.errors import ConfigError, ModelError, UnknownNameError
from zoo_torchgeo.backbones import PRITHVI_BANDS, PRITHVI_URLS, Backbone
from zoo_torchgeo.bands import SENTINEL2_STATISTICS, Matching, match, read_name

CROMA_BANDS = ("B1", "B2", "B3", "B4", "B5", "B6", "B7", "B8", "B8A", "B9", "B11", "B12")
_DIVISORS = (10000.0, 3000.0)
"""Divisors of Sentinel-2 digital numbers for which the mean and standard deviation of the result are known."""
_HASH = re.compile(r"-[0-9a-f]{8,}\.pth?$")


class PretrainedBandsWarning(UserWarning):
    """Warning about bands that the data and published weights do not share."""


@dataclass(frozen=True)
class Published:
    """One entry of an enumeration of torchgeo.

    Attributes:
        name: name of the entry.
        url: address of the weights.
        bands: bands that they were trained with, in order; empty for a backbone that takes wavelengths.
        sensor: sensor of the bands' names.
        scale: standard deviation of each band that the backbone expects.
        shift: mean of each band that the backbone expects.
    """

    name: str
    url: str
    bands: tuple[str, ...]
    sensor: str
    scale: tuple[float, ...]
    shift: tuple[float, ...]


def published(backbone: Backbone) -> dict[str, Published]:
    """Return the published weights of a backbone in the installed torchgeo, by name.

    Raises:
        ModelError: if the installed torchgeo lacks the backbone's enumeration.
    """
    if backbone.kind == "terratorch":
        return {name: _prithvi(name) for name in backbone.weights}
    if not backbone.enum:
        return {}
    import torchgeo
    import torchgeo.models

    enum: Any = getattr(torchgeo.models, backbone.enum, None)
    if enum is None:
        raise ModelError(
            f"torchgeo {torchgeo.__version__} has no {backbone.enum}",
            where=backbone.source,
            hint="Install another release: pip install 'torchgeo>=0.8,<0.11'",
        )
    listed = [entry for entry in enum if entry.name in backbone.weights or not backbone.encoder]
    return {entry.name: _read(backbone, entry) for entry in listed}


def _prithvi(name: str) -> Published:
    bands = PRITHVI_BANDS
    url = f"https://huggingface.co/ibm-nasa-geospatial/{PRITHVI_URLS[name]}"
    return Published(name, url, bands, "sentinel2", (1.0,) * len(bands), (0.0,) * len(bands))


def _read(backbone: Backbone, entry: Any) -> Published:
    bands = tuple(entry.meta.get("bands", ()))
    if backbone.kind == "croma":
        bands = CROMA_BANDS
    elif not bands and entry.meta.get("in_chans") == 3:
        bands = ("R", "G", "B")
    name = entry.name
    sensor = next((sensor for word, sensor in _SENSORS.items() if word in name), "sentinel2")
    if backbone.kind == "croma":
        # Two standard deviations around the mean become 0 to 1 [S: CROMA's README; without its clipping, O].
        scales = [(0.25, 0.5)] * len(bands)
    else:
        scales = [_expected(band, entry.transforms) for band in bands]
    scale, shift = zip(*scales, strict=True) if scales else ((), ())
    return Published(name, entry.url, bands, sensor, scale, shift)


_SENSORS = {
    "LANDSAT_TM": "landsat_tm",
    "LANDSAT_ETM": "landsat_etm",
    "LANDSAT": "landsat_oli",
}


def _expected(band: str, transforms: Any) -> tuple[float, float]:
    """Return the standard deviation and mean of a band that the backbone expects, given the weights' transforms.

    For Sentinel-2 digital numbers that are only divided, they are those of SSL4EO-S12. All other bands are
    standardised, by the transforms or because the statistics of the pretraining are not published.
    """
    normalise = [part for part in transforms.modules() if type(part).__name__ == "Normalize"] if transforms else []
    known = SENTINEL2_STATISTICS.get(read_name(band).key)
    if len(normalise) != 1 or known is None:
        return 1.0, 0.0
    means, divisors = list(normalise[0].mean), list(normalise[0].std)
    if any(means) or len(divisors) != 1 or float(divisors[0]) not in _DIVISORS:
        return 1.0, 0.0
    return known[1] / float(divisors[0]), known[0] / float(divisors[0])


@dataclass(frozen=True)
class Request:
    """Weights that the user requested.

    Attributes:
        entry: the published weights.
        file: local file; ``None`` to download them.
    """

    entry: Published
    file: Path | None

    def read(self) -> dict[str, Any]:
        """Return the content of the file, which is downloaded if necessary.

        Raises:
            ModelError: if it cannot be downloaded or read.
        """
        if self.file is not None:
            return read_file(self.file)
        url = self.entry.url
        try:
            content = torch.hub.load_state_dict_from_url(
                url, map_location="cpu", progress=False, check_hash=bool(_HASH.search(url)), weights_only=True
            )
        except Exception as error:  # HTTP, TLS, hash and disk errors share no base class
            raise ModelError(
                f"weights {self.entry.name} could not be downloaded ({type(error).__name__})",
                where="weights",
                hint=f"Leave weights out to start from random weights, or fetch {url} on another machine and pass the "
                "path of the file",
            ) from error
        return dict(content)


def read_file(path: Path) -> dict[str, Any]:
    """Return the tensors of a ``.safetensors`` or a ``torch.save`` file. No code in it is executed.

    Raises:
        ModelError: if the file holds none.
    """
    try:
        if path.suffix == ".safetensors":
            return dict(load_file(path))
        content = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # safetensors, pickle and zip errors share no base class
        raise ModelError(
            f"{path} does not hold a state dict ({type(error).__name__})",
            where="weights",
            hint="Give a .safetensors file, or a .pth file that torch.load reads with weights_only=True",
        ) from error
    if not isinstance(content, Mapping):
        raise ModelError(f"{path} holds a {type(content).__name__}, not a state dict", where="weights")
    return dict(content)


def request(backbone: Backbone, weights: str, only: str | None) -> Request:
    """Return the weights for a name or file.

    Args:
        backbone: the backbone.
        weights: name of published weights, or path of a file.
        only: the weights in the name of the model; ``None`` if it has none.

    Raises:
        UnknownNameError: if ``weights`` is neither.
        ConfigError: if the weights differ from those in the name of the model, or it is unknown which weights a file
            holds.
    """
    known = published(backbone)
    if only is not None and only not in known:
        import torchgeo

        raise ModelError(f"torchgeo {torchgeo.__version__} has no weights {only}", where=backbone.source)
    path = Path(weights)
    if path.is_file():
        named = [entry.name for entry in known.values() if Path(entry.url).name == path.name]
        candidates = [only] if only else named or list(known)
        if len(candidates) != 1:
            raise ConfigError(
                f"it is not known which weights {path.name} holds",
                where="weights",
                hint="Use the model of these weights, such as torchgeo/unet-resnet50-sentinel2_all_moco, or keep the "
                f"name of the published file, such as {Path(next(iter(known.values())).url).name}"
                if known
                else "No weights of this backbone are published",
            )
        return Request(known[candidates[0]], path)
    found = next((name for name in known if name.casefold() == weights.casefold()), None)
    if found is None:
        raise UnknownNameError("weights", weights, known, where=f"{backbone.source}, and there is no such file")
    if only is not None and found != only:
        raise ConfigError(f"this model has the weights {only}, not {found}", where="weights")
    return Request(known[found], None)


class InputScaling(nn.Module):
    """Scaling of standardised bands to the range that pretrained weights expect: ``x * scale + shift``.

    It does nothing until weights are loaded. Both vectors are part of the state dict, so that a bundle stores them.

    Args:
        channels: number of bands.
    """

    scale: Tensor
    shift: Tensor

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.register_buffer("scale", torch.ones(channels, 1, 1))
        self.register_buffer("shift", torch.zeros(channels, 1, 1))

    def forward(self, x: Tensor) -> Tensor:
        return x * self.scale + self.shift

    def expect(self, matching: Matching, entry: Published) -> None:
        """Scale the matched bands as the weights expect; all others stay standardised."""
        with torch.no_grad():
            for index, slots in enumerate(matching.feeds):
                if slots:
                    self.scale[index], self.shift[index] = entry.scale[slots[0]], entry.shift[slots[0]]


def match_bands(entry: Published, bands: Sequence[str] | None, channels: int, sensor: str) -> Matching:
    """Return the matching of the bands of the data to the trained bands; unnamed bands match none."""
    names = tuple(bands) if bands is not None else ("?",) * channels
    return match(names, entry.bands, sensor, entry.sensor)


def adapt_stem(kernel: Tensor, matching: Matching, shift: Sequence[float]) -> tuple[Tensor, Tensor]:
    """Return the first kernel for the bands of the data, and the constant that missing bands add to each output.

    The kernel of a matched band is that of its trained band, or the sum of several. A missing band is filled with its
    mean in pretraining, a constant that is added to the bias. An extra band starts with zeros, so that the first
    features are those of the pretrained backbone. If no band matches, every band gets the mean kernel, scaled by
    trained bands / bands, so that activations keep their magnitude.

    Args:
        kernel: ``(D, trained bands, h, w)``.
        matching: assignment of the bands.
        shift: mean of each trained band that the backbone expects.

    Returns:
        ``(D, bands, h, w)`` and ``(D,)``.
    """
    bands = len(matching.feeds)
    if not matching.fits:
        mean = kernel.mean(1, keepdim=True) * (kernel.shape[1] / bands)
        return mean.repeat(1, bands, 1, 1), kernel.new_zeros(kernel.shape[0])
    adapted = kernel.new_zeros(kernel.shape[0], bands, *kernel.shape[2:])
    for index, slots in enumerate(matching.feeds):
        for slot in slots:
            adapted[:, index] += kernel[:, slot]
    constant = kernel.new_zeros(kernel.shape[0])
    for slot in matching.missing:
        constant += kernel[:, slot].sum((1, 2)) * shift[slot]
    return adapted, constant


def warn_unmatched_bands(entry: Published, matching: Matching, bands: Sequence[str] | None) -> None:
    """Warn of bands that are missing, extra or unknown; do nothing if all match."""
    if bands is None:
        text = "the names of the bands are not known; the mean kernel of the trained bands is used for every band"
    elif matching.missing or matching.extra:
        text = matching.describe()
    else:
        return
    warnings.warn(f"torchgeo weights {entry.name}: {text}", PretrainedBandsWarning, stacklevel=2)


def load_exactly(
    module: nn.Module,
    state: Mapping[str, Tensor],
    *,
    may_lack: Iterable[str] = (),
    may_have: Iterable[str] = (),
    weights: str,
) -> None:
    """Load a state dict and check every key and shape.

    Args:
        module: the module.
        state: tensors by key.
        may_lack: prefixes of keys of the module that published weights may lack.
        may_have: prefixes of further keys that published weights may have and that are not used.
        weights: name of the weights, for messages.

    Raises:
        ModelError: if keys are missing, unknown or of another shape; the message names the first.
    """
    wanted = module.state_dict()
    starts = partial(_starts, prefixes=tuple(may_lack)), partial(_starts, prefixes=tuple(may_have))
    missing = [key for key in wanted if key not in state and not starts[0](key)]
    unknown = [key for key in state if key not in wanted and not starts[1](key)]
    shapes = [key for key in wanted if key in state and state[key].shape != wanted[key].shape]
    for problem, keys in (("lack", missing), ("have the unknown keys", unknown), ("have other shapes of", shapes)):
        if keys:
            shown = ", ".join(keys[:3]) + (f" and {len(keys) - 3} more" if len(keys) > 3 else "")
            raise ModelError(
                f"the weights {problem} {shown}", where=weights, hint="Is it the state dict of another architecture?"
            )
    module.load_state_dict({key: value for key, value in state.items() if key in wanted}, strict=False)


def _starts(key: str, prefixes: tuple[str, ...]) -> bool:
    return key.startswith(prefixes) if prefixes else False


def check_bands(bands: Sequence[str] | None, channels: int, where: str) -> None:
    """Check that there is one name per band.

    Raises:
        ConfigError: if there is not.
    """
    if bands is not None and len(bands) != channels:
        raise ConfigError(f"{len(bands)} names of bands for {channels} bands", where=where, hint="Name every band")
