"""Write ``src/zoo_smp/encoders.json``: which decoder accepts which encoder, and their parameters and operations.

python plugins/zoo-smp/generate.py [JOBS]

Everything is counted on torch's ``meta`` device, where tensors have shapes but no values, so no weights are initialised
and no memory is needed. Every encoder is created with the settings of each decoder and run; every decoder is then run
on maps of these shapes. Parameters are those that the logits depend on, for 7 bands and 2 classes. Multiply-accumulates
are for one image of 128 x 128 pixels. ``torch.export`` runs once for each file of timm and each class of smp.

Encoders that are already in the file are skipped, so an interrupted run resumes. Delete the file after an upgrade.
"""

from __future__ import annotations

import contextlib
import json
import logging
import multiprocessing
import sys
import warnings
from dataclasses import dataclass
from functools import cache, lru_cache
from importlib.metadata import version
from itertools import pairwise
from pathlib import Path
from typing import Any

import timm
import torch
import torch.nn.functional as F
from segmentation_models_pytorch.encoders import encoders as own_encoders
from segmentation_models_pytorch.encoders import get_encoder
from segmentation_models_pytorch.encoders.timm_vit import TimmViTEncoder
from timm.models._registry import _model_to_module
from torch import Tensor, nn
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.overrides import TorchFunctionMode
from torch.utils.flop_counter import FlopCounterMode
from zoo_smp.models import CHANNELS, DECODERS, drop_unused, leaves
from zoo_smp.table import min_side

OUT = Path(__file__).parent / "src" / "zoo_smp" / "encoders.json"
BANDS, CLASSES, SIDE = 7, 2, 128
WAYS: tuple[dict[str, Any], ...] = ({}, {"dynamic_img_size": True}, {"strict_img_size": False})
"""Arguments that make an encoder take any image size, in the order in which they are tried."""
FORMS = {"pspnet": ((3, 0),), "pan": ((5, 16), (5, 32)), "deeplabv3": ((5, 8), (5, 16)), "deeplabv3plus": ((5, 16),)}
"""Depth and output stride of the encoder for each decoder, the default of smp first; 0 if the decoder sets none."""
EXPORTS: dict[str, bool] = {}
Maps = list[Tensor]


class Stub(nn.Module):
    """Stand-in for an encoder whose maps are known.

    Args:
        channels: channels of the maps.
        strides: size of the image divided by the size of each map.
        tokens: prefix tokens of a vision transformer; ``None`` for other encoders.
    """

    def __init__(self, channels: tuple[int, ...], strides: tuple[int, ...], tokens: int | None) -> None:
        super().__init__()
        self.out_channels = list(channels)
        self.output_stride = strides[-1]
        self.output_strides = list(strides)
        self.has_prefix_tokens = bool(tokens)
        self.tokens = tokens
        self.name = "stub"
        self.maps: Maps = []

    def forward(self, image: Tensor) -> Any:
        height, width = image.shape[2:]
        self.maps = [
            torch.empty(len(image), channels, height // stride, width // stride, device="meta", requires_grad=True)
            for channels, stride in zip(self.out_channels, self.output_strides, strict=True)
        ]
        if self.tokens is None:
            return self.maps
        return self.maps, [
            torch.empty(len(image), self.tokens, one.shape[1], device="meta") if self.tokens else None
            for one in self.maps
        ]


class Quick(TorchFunctionMode):
    """Mode that skips slow operations that change no count: weight initialisation, statistics, interpolation.

    Attributes:
        single: whether a batch normalisation saw one value per channel, which fails in training on one image.
    """

    DRAWS = (Tensor.normal_, Tensor.uniform_, Tensor.clamp_, Tensor.erfinv_)

    def __init__(self) -> None:
        super().__init__()
        self.single = False

    def __torch_function__(self, function: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        given = kwargs or {}
        if getattr(function, "__module__", "") == "torch.nn.init" or function in self.DRAWS:
            return args[0] if args else given["tensor"]
        if function is F.batch_norm:
            self.single |= args[0].numel() == args[0].shape[1]
            if given["weight"] is not None and given["bias"] is not None:
                shape = (1, -1) + (1,) * (args[0].ndim - 2)
                return torch.addcmul(given["bias"].view(shape), args[0], given["weight"].view(shape))
        if function is F.interpolate and given.get("mode") in ("bilinear", "bicubic"):
            given = {name: value for name, value in given.items() if name not in ("align_corners", "antialias")}
            given["mode"] = "nearest"
        return function(*args, **given)


@dataclass(frozen=True)
class Kind:
    """Properties of an encoder that matter to a decoder, except the channels of its maps.

    Attributes:
        like: part of the encoder's name that smp's classes check.
        strides: size of the image divided by the size of each map.
        tokens: prefix tokens of a vision transformer; ``None`` for other encoders.
        multiple: number by which height and width must be divisible.
    """

    like: str
    strides: tuple[int, ...]
    tokens: int | None
    multiple: int

    def side(self, decoder: str, least: int) -> int:
        """Return the smallest side in pixels, at least ``least``, that the decoder takes."""
        return at_least(max(least, min_side(decoder, self.strides[-1])), self.multiple)


def decoder_on(stub: Stub, decoder: str, like: str) -> nn.Module:
    """Create a decoder on maps without values.

    Raises:
        Exception: any error of a decoder that does not accept them.
    """
    module = sys.modules[DECODERS[decoder].__module__]
    options: dict[str, Any] = {}
    if FORMS.get(decoder, ((0, 0),))[0][1]:
        options["encoder_output_stride"] = stub.output_stride
    if decoder in ("unet", "unetplusplus", "manet"):
        options["decoder_channels"] = CHANNELS
    if decoder == "dpt":
        options["decoder_readout"] = "cat" if stub.tokens else "ignore"
    attribute = "get_encoder" if stub.tokens is None else "TimmViTEncoder"
    kept = getattr(module, attribute)
    setattr(module, attribute, lambda *_, **__: stub)
    depth = len(stub.out_channels) - (stub.tokens is None)
    common = {"encoder_depth": depth, "encoder_weights": None, "in_channels": BANDS, "classes": CLASSES}
    try:
        with Quick(), torch.device("meta"):
            network: nn.Module = DECODERS[decoder](like, **common, **options)
    finally:
        setattr(module, attribute, kept)
    return network.eval()


@cache
def trains_on_one(decoder: str, kind: Kind, channels: tuple[int, ...]) -> bool:
    """Check that a decoder takes images of several sizes, and return whether it trains on one image.

    Raises:
        Exception: any error of a decoder that takes none.
    """
    network = decoder_on(Stub(channels, kind.strides, kind.tokens), decoder, kind.like)
    height, width = kind.side(decoder, 2 * kind.multiple), kind.side(decoder, 3 * kind.multiple)
    with Quick() as quick, torch.no_grad():
        logits = network(image(height, width))
    if abs(logits.shape[2] - height) > height // 4 or logits.shape[1] != CLASSES:
        raise ValueError(f"the logits have shape {tuple(logits.shape)} for {height} x {width} pixels")
    return not quick.single


@cache
def decoder_cost(decoder: str, kind: Kind, channels: tuple[int, ...]) -> tuple[int, int, tuple[int, ...]]:
    """Return the parameters and floating-point operations of a decoder, and the indices of the maps that it uses."""
    stub = Stub(channels, kind.strides, kind.tokens)
    network = decoder_on(stub, decoder, kind.like)
    size = kind.side(decoder, SIDE)
    with Quick(), FlopCounterMode(display=False) as counter:
        found = leaves(network(image(size, size)))
    parameters = sum(one.numel() for one in network.parameters() if id(one) in found)
    return parameters, counter.get_total_flops(), tuple(i for i, one in enumerate(stub.maps) if id(one) in found)


class CountedEncoder:
    """An encoder and the image sizes that it takes, determined by running it.

    Args:
        name: its name in smp.

    Raises:
        Exception: the reason why no decoder can use it.
    """

    def __init__(self, name: str) -> None:
        self.name = name
        self.vit = name not in own_encoders and not has_pyramid(name)
        self.first = (4 if self.vit else 5, 0)
        self.arguments: dict[str, Any] = {}
        self.encoder, self.multiple = self._sizes()
        self.tokens = getattr(self.encoder.model, "num_prefix_tokens", 0) if self.vit else None

    def create(self, depth: int, stride: int) -> Any:
        """Create the encoder in evaluation mode with the depth and output stride that a decoder sets."""
        dilated = {"output_stride": stride} if stride else {}
        common = {"in_channels": BANDS, "depth": depth, **self.arguments, **dilated}
        with Quick(), torch.device("meta"):
            if self.vit:
                return TimmViTEncoder(self.name.removeprefix("tu-"), pretrained=False, **common).eval()
            with contextlib.suppress(RuntimeError):
                return get_encoder(self.name, weights=None, **common).to("meta").eval()
        return get_encoder(self.name, weights=None, **common).to("meta").eval()  # the constructor computes with values

    def _sizes(self) -> tuple[Any, int]:
        reasons = []
        for self.arguments in WAYS:
            try:
                encoder = self.create(*self.first)
            except Exception as error:
                reasons.append(error)
                continue
            first = 2 * encoder.output_stride if self.vit else 32
            for multiple in dict.fromkeys((first, 2 * first, 224)):
                try:
                    with Quick() as quick, torch.no_grad():
                        check_maps(run(encoder, 2 * multiple, 3 * multiple), multiple)
                except Exception as error:
                    reasons.append(error)
                else:
                    self.batch1 = not quick.single
                    return encoder, multiple
        raise reasons[0]

    def counted(self, depth: int, stride: int) -> tuple[Any, Maps, int]:
        """Return the encoder for a depth and stride, the maps of one image, and its floating-point operations."""
        encoder = self.encoder if (depth, stride) == self.first else self.create(depth, stride)
        side = at_least(SIDE, self.multiple)
        encoder.train().eval()  # empties caches of attention biases, whose parameters would not be counted
        if depth < self.first[0]:  # some encoders run layers after the last map, which models remove
            drop_unused(encoder, image(side, side))
        # The FLOP counter does not support fused attention.
        with Quick(), sdpa_kernel(SDPBackend.MATH), FlopCounterMode(display=False) as counter:
            maps = run(encoder, side, side)
        return encoder, maps, counter.get_total_flops()

    def exports(self) -> bool:
        """Return whether ``torch.export`` with a dynamic batch works; tried once per file of timm and class of smp."""
        if family(self.name) not in EXPORTS:
            EXPORTS[family(self.name)] = self._export()
        return EXPORTS[family(self.name)]

    def _export(self) -> bool:
        side = 2 * self.multiple
        sample = (torch.empty(2, BANDS, side, side, device="meta"),)
        try:
            torch.export.export(self.encoder, sample, dynamic_shapes=({0: torch.export.Dim("b")},))
        except Exception:
            return False
        return True


def facts(name: str) -> dict[str, Any]:
    """Return the entry of the table for an encoder.

    Raises:
        Exception: the reason why no decoder can use it.
    """
    encoder = CountedEncoder(name)
    forms: dict[tuple[int, int], tuple[Any, Maps, int]] = {}
    found: dict[str, list[Any]] = {}
    reasons = []
    side = at_least(SIDE, encoder.multiple)
    for decoder in ("dpt",) if encoder.vit else tuple(DECODERS)[:-1]:
        for form in FORMS.get(decoder, (encoder.first,)):
            try:
                if form not in forms:
                    forms[form] = encoder.counted(*form)
                network, maps, flops = forms[form]
                strides = tuple(side // one.shape[-1] for one in maps)
                if form[1] and strides[-1] != form[1]:
                    raise ValueError(f"its output stride stays {strides[-1]}")
                like = next((family for family in ("vgg", "mit_b") if name.startswith(family)), "tu-")
                multiple = (
                    2 ** form[0] if form[0] < 5 and encoder.multiple == 32 and not encoder.vit else encoder.multiple
                )
                kind = Kind(like, strides, encoder.tokens, multiple)
                channels = tuple(network.out_channels)
                batch1 = encoder.batch1 and trains_on_one(decoder, kind, tuple(min(one, 8) for one in channels))
                parameters, more, used = decoder_cost(decoder, kind, channels)
            except Exception as error:
                reasons.append(error)
                continue
            parameters += sum(one.numel() for one in used_parameters(network, maps, used))
            fits = kind.side(decoder, SIDE) == side
            found[decoder] = [parameters, round((flops + more) / 2e9, 3) if fits else None, batch1, form[1]]
            break
    if not found:
        raise reasons[0]
    entry: dict[str, Any] = {"smp": name, "decoders": found, "exportable": encoder.exports()}
    if encoder.multiple != 32 or encoder.vit:
        entry |= {"multiple": encoder.multiple, "minimum": max(64, encoder.multiple // 2 + 1)}
    if encoder.arguments:
        entry["arguments"] = encoder.arguments
    if encoder.tokens:
        entry["class_token"] = True
    return entry | published(name)


_create_model = timm.create_model


@lru_cache(maxsize=1)
def features_of(name: str) -> nn.Module:
    """Create an encoder of timm as smp does to read the sizes of its maps."""
    return _create_model(name, features_only=True)


timm.create_model = lambda name, **given: (
    features_of(name) if given == {"features_only": True} else _create_model(name, **given)
)


def has_pyramid(name: str) -> bool:
    """Return whether each map of an encoder of timm has half the size of the one before, as smp's decoders require."""
    reductions: list[int] = [0]
    for device in ("meta", "cpu"):  # some constructors compute with values
        with contextlib.suppress(Exception), Quick(), torch.device(device):
            reductions = timm.create_model(name.removeprefix("tu-"), features_only=True).feature_info.reduction()
            break
    return reductions[0] in (1, 2, 4) and all(2 * one == following for one, following in pairwise(reductions))


def image(height: int, width: int) -> Tensor:
    return torch.empty(1, BANDS, height, width, device="meta")


def run(encoder: Any, height: int, width: int) -> Maps:
    found = encoder(image(height, width))
    return found[0] if isinstance(found, tuple) else found


def check_maps(maps: Maps, multiple: int) -> None:
    """Check that the maps of an image of 2 x 3 multiples have the proportions of the image, as decoders expect.

    Raises:
        ValueError: if a map has others.
    """
    for one in maps:
        height, width = one.shape[-2:]
        if 3 * height != 2 * width:
            raise ValueError(f"an image of {2 * multiple} x {3 * multiple} pixels has a map of {height} x {width}")


def at_least(side: int, multiple: int) -> int:
    """Return the smallest multiple that is at least ``side``."""
    return -(-side // multiple) * multiple


def used_parameters(encoder: nn.Module, maps: Maps, used: tuple[int, ...]) -> list[nn.Parameter]:
    found: set[int] = set()
    for index in used:
        if maps[index].grad_fn is not None:
            found |= leaves(maps[index])
    return [one for one in encoder.parameters() if id(one) in found]


def published(name: str) -> dict[str, Any]:
    """Return the names and the licence of the published weights."""
    if not name.startswith("tu-"):
        names = sorted(own_encoders[name]["pretrained_settings"])
        return {"weights": names} if names else {}
    config = timm.get_pretrained_cfg(name.removeprefix("tu-"))
    if config is None or not config.has_weights:
        return {}
    return {"weights": ["imagenet"], "licence": config.license or ""}


@cache
def names() -> dict[str, str]:
    """Return the names in smp by the names here; those of timm lose their ``tu-`` unless smp itself uses the name."""
    found = {name: name for name in own_encoders}
    for name in timm.list_models():
        found[f"tu-{name}" if name in own_encoders else name] = f"tu-{name}"
    return found


def entry_or_reason(name: str) -> dict[str, Any] | str:
    """Return the entry of the table for an encoder, or the reason why it is left out."""
    try:
        return facts(name)
    except Exception as error:
        return " ".join(f"{type(error).__name__}: {error}".split())[:160]


def start(exports: dict[str, bool]) -> None:
    """Set up a worker process with the earlier results of ``torch.export`` by family."""
    EXPORTS.update(exports)
    warnings.filterwarnings("ignore")
    logging.disable(logging.WARNING)
    torch.set_num_threads(1)


def family(name: str) -> str:
    """Return the class of smp, or the file of timm, that implements an encoder."""
    own = own_encoders.get(name)
    return own["encoder"].__name__ if own else _model_to_module[name.removeprefix("tu-")]


def main(jobs: str = "1") -> None:
    kept = json.loads(OUT.read_text()) if OUT.exists() else {"encoders": {}, "left_out": {}}
    encoders, left_out = kept["encoders"], kept["left_out"]
    exports = {family(one["smp"]): one["exportable"] for one in encoders.values()}
    counted = encoders.keys() | left_out.keys()
    waiting = [here for here in names() if here not in counted]
    with multiprocessing.get_context("spawn").Pool(int(jobs), start, (exports,)) as pool:
        facts_of_each = pool.imap(entry_or_reason, [names()[here] for here in waiting])
        for done, (here, found) in enumerate(zip(waiting, facts_of_each, strict=True)):
            (left_out if isinstance(found, str) else encoders)[here] = found
            print(f"{done + 1} of {len(waiting)}: {here}{f': {found}' if isinstance(found, str) else ''}", flush=True)
            save(encoders, left_out)


def save(encoders: dict[str, Any], left_out: dict[str, str]) -> None:
    versions = {one: version(one) for one in ("segmentation-models-pytorch", "timm", "torch")}
    rest = json.dumps({"versions": versions, "left_out": dict(sorted(left_out.items()))}, indent=0)
    lines = [f"{json.dumps(name)}:{json.dumps(one, separators=(',', ':'))}" for name, one in sorted(encoders.items())]
    OUT.write_text(rest[:-2] + ',\n"encoders": {\n' + ",\n".join(lines) + "\n}}\n")


if __name__ == "__main__":
    main(*sys.argv[1:])
