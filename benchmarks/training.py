"""Compare training steps per second of zoo with plain eager float32, interleaved, and compare their losses.

A step is forward, loss, backward, clipping and optimiser on one batch. "eager" is float32, channels first, torch's
default AdamW, and hybrid convolutions that scale their outputs. "ours fp32" uses channels last and the fused AdamW;
"ours bf16" adds mixed precision, in which depthwise convolutions stay in float32; "bf16 everywhere" does not except
them. In all three, hybrid convolutions scale their kernels. "+ allocator" means that the
process raised glibc's thresholds, as `zoo train` and `zoo bench` do; one process runs with them and one without, and
the two take turns. Losses are compared for the same weights, batches and order. Their noise is the effect of another
seed of the weights.

python benchmarks/training.py [--models unet,enhanced_unet] [--size 128] [--batch 16] [--rounds 5] [--json FILE]
"""

from __future__ import annotations

import argparse
import copy
import json
import statistics
import time
from collections.abc import Callable
from contextlib import nullcontext
from multiprocessing import get_context
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from zoo.blocks import HybridConv2d
from zoo.datasets.synthetic import Synthetic
from zoo.deploy import raise_allocator_thresholds
from zoo.registry import catalogue, create_model
from zoo.schema import to_plain
from zoo.training.bundle_layout import ComputeFormat
from zoo.training.compute import autocast, depthwise_in_float32, describe_environment, memory_format
from zoo.training.recipes import get_recipe

EAGER, FP32, BF16, BF16_EVERYWHERE = "eager", "ours fp32", "ours bf16", "bf16 everywhere"
VARIANTS = (EAGER, FP32, BF16, BF16_EVERYWHERE)
ALLOCATORS = {"both": (False, True), "as installed": (False,), "raised": (True,)}


class ScaledOutputs(nn.Module):
    """A hybrid convolution as equation 9 is printed: two convolutions, each output times its weight, added."""

    def __init__(self, layer: HybridConv2d) -> None:
        super().__init__()
        self.layer = layer

    def forward(self, x: Tensor) -> Tensor:
        layer, first = self.layer, self.layer.branches[0]
        if len(layer.branches) == 1 or layer.mode != "shared":
            return layer(x)
        total = None
        for branch in layer.branches:
            pad = branch.dilation * (layer.kernel_size - 1) // 2
            bias = layer.bias if branch is first else None
            y = branch.scale * F.conv2d(x, layer.weight, None, padding=pad, dilation=branch.dilation)
            if bias is not None:
                y = y + bias[:, None, None]
            total = y if total is None else total + y
        return total


def eager(model: nn.Module) -> nn.Module:
    """The model with its hybrid convolutions written as one would."""
    for parent in list(model.modules()):
        for name, child in list(parent.named_children()):
            if isinstance(child, HybridConv2d) and not isinstance(parent, ScaledOutputs):
                setattr(parent, name, ScaledOutputs(child))
    return model


def make_step(variant: str, model: nn.Module, images: Tensor, masks: Tensor) -> Callable[[int], float]:
    """One training step on the batch that starts at an index; gives the loss."""
    recipe = get_recipe("quick")
    precision = ComputeFormat("bf16" if variant in (BF16, BF16_EVERYWHERE) else "fp32", channels_last=variant != EAGER)
    trained = copy.deepcopy(model).train().to(memory_format=memory_format(precision))
    trained = eager(trained) if variant == EAGER else trained
    fused = {} if variant == EAGER else {"fused": True}
    optimiser = torch.optim.AdamW(trained.parameters(), lr=recipe.lr, weight_decay=recipe.weight_decay, **fused)
    loss_of = catalogue().losses.get(recipe.loss).resolve()(ignore_index=255)

    def step(start: int, count: int | None = None) -> float:
        stop = None if count is None else start + count
        batch = images[start:stop].to(memory_format=memory_format(precision))
        optimiser.zero_grad(set_to_none=True)
        with (
            autocast(precision, batch.device),
            nullcontext() if variant == BF16_EVERYWHERE else depthwise_in_float32(trained),
        ):
            logits = trained(batch)
        loss = loss_of(logits, masks[start:stop])
        loss.backward()
        torch.nn.utils.clip_grad_norm_(trained.parameters(), recipe.clip)
        optimiser.step()
        return float(loss.detach())

    return step


def patches(count: int, size: int) -> tuple[Tensor, Tensor]:
    """Normalised patches of the embedded data and their masks."""
    data = Synthetic(split="train")
    images = torch.stack([data[index]["image"][:, :size, :size] for index in range(count)])
    masks = torch.stack([data[index]["mask"][:size, :size] for index in range(count)]).long()
    spread, centre = torch.std_mean(images, dim=(0, 2, 3), keepdim=True)
    return (images - centre) / spread, masks


def worker(pipe: Connection, name: str, arguments: argparse.Namespace, raised: bool) -> None:
    """Run a training step of one variant whenever asked, and give its seconds."""
    problem = raise_allocator_thresholds() if raised else None
    torch.set_num_threads(arguments.threads)
    torch.manual_seed(0)
    model = create_model(name)
    images, masks = patches(arguments.batch, arguments.size)
    steps = {variant: make_step(variant, model, images, masks) for variant in VARIANTS}
    pipe.send(problem)
    while (variant := pipe.recv()) is not None:
        start = time.perf_counter()
        steps[variant](0)
        pipe.send(time.perf_counter() - start)


def speed(name: str, arguments: argparse.Namespace) -> list[dict[str, Any]]:
    """Median seconds of a step of each variant."""
    context = get_context("spawn")
    pipes: dict[bool, Connection] = {}
    processes = []
    settings = ALLOCATORS[arguments.allocator]
    for raised in settings:
        pipes[raised], there = context.Pipe()
        processes.append(context.Process(target=worker, args=(there, name, arguments, raised)))
        processes[-1].start()
    for pipe in pipes.values():
        if problem := pipe.recv():
            print(f"allocator thresholds are as they were: {problem}")
    times: dict[tuple[bool, str], list[float]] = {(raised, one): [] for raised in pipes for one in VARIANTS}
    for turn in range(arguments.rounds + 1):
        for (raised, variant), values in times.items():
            pipes[raised].send(variant)
            seconds = pipes[raised].recv()
            if turn:
                values.append(seconds)
    for pipe in pipes.values():
        pipe.send(None)
    for process in processes:
        process.join()
    median = {key: statistics.median(values) for key, values in times.items()}
    return [
        {
            "model": name,
            "batch": arguments.batch,
            "size": arguments.size,
            "variant": variant + (" + allocator" if raised else ""),
            "seconds": seconds,
            "ratio": median[settings[0], EAGER] / seconds,
            "ratio_same_allocator": median[raised, EAGER] / seconds,
        }
        for (raised, variant), seconds in median.items()
    ]


def losses(name: str, arguments: argparse.Namespace, images: Tensor, masks: Tensor) -> list[dict[str, Any]]:
    """Mean loss over the last quarter of the steps, for each variant and two seeds of the weights."""
    rows = []
    batch = 8
    for seed in (0, 1):
        torch.manual_seed(seed)
        model = create_model(name)
        for variant in VARIANTS:
            step: Any = make_step(variant, model, images, masks)
            curve = [step(index * batch % len(images), batch) for index in range(arguments.steps)]
            last = curve[-max(1, arguments.steps // 4) :]
            rows.append({"model": name, "seed": seed, "variant": variant, "loss": statistics.mean(last)})
    return rows


def show_speed(rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """One line a row; ratios are to eager as installed, and to eager with the same allocator."""
    print(f"\n{'model':16} {'batch':>5} {'size':>5} {'variant':22} {'s/step':>8} {'/ eager':>8} {'/ same alloc.':>14}")
    for row in rows:
        print(
            f"{row['model']:16} {row['batch']:5} {row['size']:5} {row['variant']:22} {row['seconds']:8.3f} "
            f"{row['ratio']:8.2f} {row['ratio_same_allocator']:14.2f}",
            flush=True,
        )
    return rows


def show_losses(rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """One line a row."""
    print(f"\n{'model':16} {'seed':>4} {'variant':10} {'loss':>7}")
    for row in rows:
        print(f"{row['model']:16} {row['seed']:4} {row['variant']:10} {row['loss']:7.4f}", flush=True)
    return rows


def main() -> None:
    """Print both tables of each model, and write their rows with --json."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--models", default="unet,enhanced_unet")
    parser.add_argument("--size", type=int, default=128)
    parser.add_argument("--batch", type=int, default=16)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--steps", type=int, default=24, help="of the comparison of losses, on 64-pixel crops; 0: none")
    parser.add_argument("--allocator", choices=ALLOCATORS, default="both", help="one process beside no other, or both")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--json", type=Path)
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    machine = to_plain(describe_environment(torch.device("cpu")))
    rows: dict[str, list[dict[str, Any]]] = {"speed": [], "losses": []}
    for name in arguments.models.split(","):
        rows["speed"] += show_speed(speed(name, arguments))
        if arguments.steps:
            rows["losses"] += show_losses(losses(name, arguments, *patches(32, 64)))
        if arguments.json:
            arguments.json.write_text(json.dumps({"machine": machine, **rows}, indent=2) + "\n")
    print(f"\n{machine['processor']}, {arguments.threads} threads, torch {torch.__version__}")


if __name__ == "__main__":
    main()
