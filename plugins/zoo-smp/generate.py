"""Write ``src/zoo_smp/encoders.json``: which decoder accepts which encoder, counted without memory for weights.

python plugins/zoo-smp/generate.py SCAN [SECONDS]

Everything runs on torch's ``meta`` device, where tensors have shapes and no values. First every encoder of timm is
created once, and what is learned is kept in the file SCAN. Then encoders are run and counted with every decoder: those
of segmentation_models.pytorch and the smallest of each family of timm, then the others, until SECONDS of processor
time are over. An encoder that is not counted gets the facts of the smallest of its family, without numbers; the table
says ``like``. Encoders that the file counts already are not counted again; delete it for other versions.
"""

from __future__ import annotations

import contextlib
import json
import logging
import sys
import time
import warnings
from dataclasses import dataclass
from functools import cache
from importlib.metadata import version
from itertools import pairwise
from pathlib import Path
from typing import Any

import timm
import torch
from segmentation_models_pytorch.encoders import encoders as own_encoders
from segmentation_models_pytorch.encoders import get_encoder
from segmentation_models_pytorch.encoders.timm_vit import TimmViTEncoder
from timm.models._registry import _model_to_module
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode
from zoo_smp.models import CHANNELS, DECODERS, leaves
from zoo_smp.table import least_side

OUT = Path(__file__).parent / "src" / "zoo_smp" / "encoders.json"
BANDS, CLASSES, SIDE = 7, 2, 128
WAYS: tuple[dict[str, Any], ...] = ({}, {"dynamic_img_size": True}, {"strict_img_size": False})
"""Arguments that make an encoder take any image size, in the order in which they are tried."""
DEPTHS = {"pspnet": 3, "dpt": 4}
STRIDES = {"pan": (16, 32), "deeplabv3": (8, 16), "deeplabv3plus": (16,)}
Maps = list[Tensor]


class Stub(nn.Module):
    """Stands for an encoder whose maps are known.

    Args:
        channels: channels of the maps.
        strides: size of the image divided by the size of each map.
        tokens: prefix tokens of a vision transformer; ``None`` for another encoder.
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


@dataclass(frozen=True)
class DecoderFacts:
    """What a decoder needs for maps of given channels: its parameters, multiply-accumulates and the maps it uses."""

    parameters: int
    flops: int
    used: tuple[int, ...]
    batch1: bool


@cache
def decoder_facts(
    decoder: str, like: str, channels: tuple[int, ...], strides: tuple[int, ...], tokens: int | None, multiple: int
) -> DecoderFacts:
    """Run a decoder on maps without values. ``like`` is what smp's classes look at in the name of the encoder.

    Raises:
        Exception: whatever the decoder raises if it does not accept them.
    """
    stub = Stub(channels, strides, tokens)
    module = sys.modules[DECODERS[decoder].__module__]
    options: dict[str, Any] = {}
    if decoder in STRIDES:
        options["encoder_output_stride"] = strides[-1]
    if decoder in ("unet", "unetplusplus", "manet"):
        options["decoder_channels"] = CHANNELS
    if decoder == "dpt":
        options["decoder_readout"] = "cat" if tokens else "ignore"
    attribute = "get_encoder" if tokens is None else "TimmViTEncoder"
    kept = getattr(module, attribute)
    setattr(module, attribute, lambda *_, **__: stub)
    try:
        with torch.device("meta"):
            network = DECODERS[decoder](
                like,
                encoder_depth=DEPTHS.get(decoder, 5),
                encoder_weights=None,
                in_channels=BANDS,
                classes=CLASSES,
                **options,
            )
    finally:
        setattr(module, attribute, kept)

    def run(height: int, width: int) -> Tensor:
        logits: Tensor = network(torch.empty(1, BANDS, height, width, device="meta"))
        if abs(logits.shape[2] - height) > height // 4 or logits.shape[1] != CLASSES:
            raise ValueError(f"the logits have shape {tuple(logits.shape)} for {height} x {width} pixels")
        return logits

    network.eval()
    least = least_side(decoder, strides[-1])
    run(at_least(max(least, 2 * multiple), multiple), at_least(max(least + multiple, 3 * multiple), multiple))
    size = at_least(max(SIDE, least), multiple)
    with FlopCounterMode(display=False) as counter:
        found = leaves(run(size, size))
    used = tuple(index for index, one in enumerate(stub.maps) if id(one) in found)
    parameters = sum(one.numel() for one in network.parameters() if id(one) in found)
    batch1 = False
    with contextlib.suppress(ValueError):
        network.train()
        side = at_least(max(least, 64 if multiple > 8 else 32), multiple)
        run(side, side)
        batch1 = True
    return DecoderFacts(parameters, counter.get_total_flops(), used, batch1)


def facts(name: str, shape: dict[str, Any]) -> dict[str, Any]:
    """Return all that the table says of an encoder; ``shape`` is what the scan says of it.

    Raises:
        Exception: whatever timm or smp raises if it makes no maps.
    """
    vit = shape.get("style") == "other"
    encoder, arguments, multiple = create(name, vit)
    batch1 = trains_on_one(encoder, at_least(64, multiple))
    size = at_least(SIDE, multiple)
    with FlopCounterMode(display=False) as counter:
        maps = run_encoder(encoder.eval(), size, size)
    tokens = getattr(encoder.model, "num_prefix_tokens", 0) if vit else None
    found, reasons = {}, []
    for decoder in ("dpt",) if vit else tuple(DECODERS)[:-1]:
        for stride in STRIDES.get(decoder, (0,)):
            depth = DEPTHS.get(decoder, 5)
            natural = tuple(size // one.shape[-1] for one in maps) if vit else tuple(2**i for i in range(depth + 1))
            strides = tuple(min(one, stride or 32) for one in natural) if not vit else natural
            channels = tuple(encoder.out_channels)[: len(strides)]
            least = multiple if depth > 3 or multiple != 32 else 8
            try:
                if stride and stride < 32:
                    dilate(name, stride, shape)
                like = next((family for family in ("vgg", "mit_b") if name.startswith(family)), "tu-")
                one = decoder_facts(decoder, like, channels, strides, tokens, least)
            except Exception as error:
                reasons.append(one_line(error))
                continue
            parameters = sum(p.numel() for p in used_parameters(encoder, maps, one.used)) + one.parameters
            whole = depth != 3 and not stride and size == SIDE and not fused_attention(encoder)
            gmac = round((counter.get_total_flops() + one.flops) / 2e9, 3) if whole else None
            flags = ["exportable", *(["batch1_training"] if batch1 and one.batch1 else [])]
            found[decoder] = [parameters, gmac, flags, stride]
            break
    if not found:
        raise ValueError(reasons[0])
    entry: dict[str, Any] = {"smp": name, "decoders": found}
    if multiple != 32 or vit:
        entry |= {"multiple": multiple, "minimum": max(64, multiple // 2 + 1)}
    if arguments:
        entry["arguments"] = arguments
    if tokens:
        entry["class_token"] = True
    return entry | published(name)


def create(name: str, vit: bool) -> tuple[Any, dict[str, Any], int]:
    """Create an encoder that takes images of several sizes; return it with its arguments and the multiple of sizes.

    Raises:
        Exception: the first reason why it takes none.
    """
    reasons = []
    for arguments in WAYS:
        try:
            encoder = create_once(name, vit, arguments)
        except Exception as error:
            reasons.append(error)
            continue
        first = 32 if not vit else 2 * encoder.output_stride
        for multiple in dict.fromkeys((first, 2 * first, 224)):
            try:
                run_encoder(encoder.eval(), 2 * multiple, 3 * multiple)
            except Exception as error:
                reasons.append(error)
            else:
                return encoder, arguments, multiple
    raise reasons[0]


def create_once(name: str, vit: bool, arguments: dict[str, Any]) -> Any:
    with torch.device("meta"):
        if vit:
            short = name.removeprefix("tu-")
            return TimmViTEncoder(short, pretrained=False, in_channels=BANDS, depth=4, **arguments)
        with contextlib.suppress(RuntimeError):
            return get_encoder(name, in_channels=BANDS, depth=5, **arguments)
    return get_encoder(name, in_channels=BANDS, depth=5).to("meta")  # it computes with values when it is created


def dilate(name: str, stride: int, shape: dict[str, Any]) -> None:
    """Check that an encoder can have an output stride.

    Raises:
        ValueError: if it cannot.
    """
    if name not in own_encoders:
        if not isinstance(shape.get(f"os{stride}"), list):
            raise ValueError("it cannot be dilated")
        return
    with torch.device("meta"), contextlib.suppress(RuntimeError):
        get_encoder(name, in_channels=BANDS, output_stride=stride)


def run_encoder(encoder: Any, height: int, width: int) -> Maps:
    found = encoder(torch.empty(1, BANDS, height, width, device="meta"))
    return found[0] if isinstance(found, tuple) else found


def trains_on_one(encoder: Any, side: int) -> bool:
    with contextlib.suppress(ValueError):
        run_encoder(encoder.train(), side, side)
        return True
    return False


def at_least(side: int, multiple: int) -> int:
    """The smallest multiple that is not below a side."""
    return -(-side // multiple) * multiple


def used_parameters(encoder: nn.Module, maps: Maps, used: tuple[int, ...]) -> list[nn.Parameter]:
    found: set[int] = set()
    for index in used:
        if maps[index].grad_fn is not None:
            found |= leaves(maps[index])
    return [one for one in encoder.parameters() if id(one) in found]


def fused_attention(encoder: nn.Module) -> bool:
    """Whether a layer uses torch's fused attention, which no counter counts on the CPU."""
    return any(getattr(module, "fused_attn", False) for module in encoder.modules())


def published(name: str) -> dict[str, Any]:
    """Names and licence of the published weights."""
    if not name.startswith("tu-"):
        names = sorted(own_encoders[name]["pretrained_settings"])
        return {"weights": names} if names else {}
    config = timm.get_pretrained_cfg(name.removeprefix("tu-"))
    if config is None or not config.has_weights:
        return {}
    return {"weights": ["imagenet"], "licence": config.license or ""}


def scan(path: Path) -> dict[str, Any]:
    """Create every encoder of timm once, and return what it says of its maps; kept in a file."""
    if path.exists():
        return json.loads(path.read_text())  # type: ignore[no-any-return]
    found = {name: scan_one(name) for name in timm.list_models()}
    path.write_text(json.dumps(found))
    return found


def scan_one(name: str) -> dict[str, Any]:
    entry: dict[str, Any] = {"style": "other"}
    for key, arguments in (("red", {}), ("os8", {"output_stride": 8}), ("os16", {"output_stride": 16})):
        try:
            with torch.device("meta"):
                model = timm.create_model(name, features_only=True, **arguments)
        except Exception as error:
            entry[key] = one_line(error)
            if key == "red":
                break
            continue
        entry[key] = model.feature_info.reduction()
        entry.setdefault("params", sum(one.numel() for one in model.parameters()))
        if key == "red":
            first = {4: "transformer", 2: "traditional", 1: "vgg"}.get(entry["red"][0], "other")
            entry["style"] = "other" if any(2 * a != b for a, b in pairwise(entry["red"])) else first
            if entry["style"] == "other":
                break
    if entry["style"] == "other":
        with contextlib.suppress(Exception), torch.device("meta"):
            model = timm.create_model(name)
            reductions = sorted({info["reduction"] for info in model.feature_info})
            parameters = sum(one.numel() for one in model.parameters())
            entry["vit"] = {"red": reductions, "prefix": model.num_prefix_tokens, "params": parameters}
    return entry


def one_line(error: Exception) -> str:
    return " ".join(f"{type(error).__name__}: {error}".split())[:160]


@cache
def names() -> dict[str, str]:
    """Names in smp by the names here: those of timm lose their ``tu-`` unless smp has an encoder of the name."""
    found = {name: name for name in own_encoders}
    for name in timm.list_models():
        found[f"tu-{name}" if name in own_encoders else name] = f"tu-{name}"
    return found


def family_of(name: str, shape: dict[str, Any]) -> tuple[str, ...]:
    """What encoders that behave alike share: the file of timm, the layout of maps, and whether they can be dilated."""
    short = name.removeprefix("tu-")
    dilated = (str(isinstance(shape.get(f"os{stride}"), list)) for stride in (8, 16))
    vit = shape.get("vit") or {}
    size = str([vit.get("red"), vit.get("prefix")])
    return (_model_to_module.get(short, "smp"), shape.get("style", ""), size, *dilated)


def main(scanned: str, seconds: str = "inf") -> None:
    warnings.filterwarnings("ignore")
    logging.disable(logging.WARNING)
    torch.set_num_threads(1)
    shapes = {f"tu-{name}": shape for name, shape in scan(Path(scanned)).items()}
    kept = json.loads(OUT.read_text()) if OUT.exists() else {"encoders": {}, "left_out": {}}
    encoders = {here: one for here, one in kept["encoders"].items() if "like" not in one}
    left_out = {here: why for here, why in kept["left_out"].items() if not why.startswith("like ")}
    families: dict[tuple[str, ...], list[str]] = {}
    for here, name in names().items():
        key = (own_encoders[name]["encoder"].__name__,) if name in own_encoders else family_of(name, shapes[name])
        families.setdefault(key, []).append(here)
    for members in families.values():
        members.sort(key=lambda here: (not published(names()[here]), size_of(shapes.get(names()[here], {}))))
    first = [members[0] for members in families.values()]
    rest = [here for members in families.values() for here in members[1:]]
    for here in [*first, *sorted(rest, key=lambda one: size_of(shapes.get(names()[one], {})))]:
        if here in encoders or here in left_out:
            continue
        if time.process_time() > float(seconds):
            break
        name = names()[here]
        try:
            encoders[here] = facts(name, shapes.get(name, {}))
        except Exception as error:
            left_out[here] = one_line(error)
        if (len(encoders) + len(left_out)) % 10 == 0:
            print(f"{len(encoders)} counted, {len(left_out)} left out: {here}", file=sys.stderr, flush=True)
            save(*by_analogy(families, encoders, left_out))
    save(*by_analogy(families, encoders, left_out))


def size_of(shape: dict[str, Any]) -> int:
    """Parameters of an encoder of timm; those of smp come first."""
    return 0 if not shape else int(shape.get("params") or (shape.get("vit") or {}).get("params") or 10**12)


def by_analogy(
    families: dict[tuple[str, ...], list[str]], encoders: dict[str, Any], left_out: dict[str, str]
) -> tuple[dict[str, Any], dict[str, str]]:
    """Give encoders that were not counted the facts of one of their family, without numbers."""
    encoders, left_out = dict(encoders), dict(left_out)
    for members in families.values():
        known = next((here for here in members if here in encoders and "like" not in encoders[here]), None)
        failed = next((here for here in members if here in left_out), None)
        for here in members:
            if here in encoders or here in left_out:
                continue
            name = names()[here]
            if known:
                model = encoders[known]
                decoders = {one: [None, None, *facts[2:]] for one, facts in model["decoders"].items()}
                kept = {key: model[key] for key in ("multiple", "minimum", "arguments", "class_token") if key in model}
                encoders[here] = {"smp": name, "decoders": decoders, "like": known, **kept, **published(name)}
            elif failed:
                left_out[here] = f"like {failed}: {left_out[failed]}"[:160]
    return encoders, left_out


def save(encoders: dict[str, Any], left_out: dict[str, str]) -> None:
    versions = {one: version(one) for one in ("segmentation-models-pytorch", "timm", "torch")}
    rest = json.dumps({"versions": versions, "left_out": dict(sorted(left_out.items()))}, indent=0)
    lines = [f"{json.dumps(name)}:{json.dumps(one, separators=(',', ':'))}" for name, one in sorted(encoders.items())]
    OUT.write_text(rest[:-2] + ',\n"encoders": {\n' + ",\n".join(lines) + "\n}}\n")


if __name__ == "__main__":
    main(*sys.argv[1:])
