"""Time the averaged form of a hybrid convolution in training, forward and backward, and the memory it holds in between.

It is compared with two convolutions with scaled kernels, which zoo trains, and with one 3x3 convolution. "averaged"
keeps its columns for the backward pass; "averaged, again" builds them a second time.

python benchmarks/hybrid_training.py [--batch 16] [--rounds 5] [--json FILE]
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable
from typing import Any

import torch
import torch.nn.functional as F
from measuring import make_parser, save_rows
from torch import Tensor, nn

from zoo.blocks import HybridConv2d

LAYERS = ((64, 64, 128), (128, 128, 64), (256, 256, 32), (512, 512, 16), (512, 512, 8))
NEAR, FAR, TAPS = 1, 2, 3


def views(padded: Tensor, height: int, width: int, rate: int) -> Tensor:
    """What each tap reads of a padded (B, H + 2 FAR, W + 2 FAR, C), as a view (B, H, W, TAPS, TAPS, C)."""
    image, down, right, _ = padded.stride()
    shape = (len(padded), height, width, TAPS, TAPS, padded.shape[-1])
    start = (FAR - rate) * (down + right)
    return padded.as_strided(shape, (image, down, right, rate * down, rate * right, 1), start)


def columns(x: Tensor) -> Tensor:
    """Averaged columns (B, H, W, TAPS * TAPS * C) of (B, C, H, W)."""
    height, width = x.shape[2:]
    padded = F.pad(x.permute(0, 2, 3, 1), (0, 0, FAR, FAR, FAR, FAR))
    return (views(padded, height, width, NEAR) + views(padded, height, width, FAR)).flatten(3)


class Averaged(torch.autograd.Function):
    """y = 0.5 conv(x; W, 1) + 0.5 conv(x; W, 2), by columns that are kept or built again."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor, keep: bool) -> Tensor:
        built = columns(x)
        kernel = (0.5 * weight).permute(0, 2, 3, 1).flatten(1)
        ctx.keep, ctx.shape = keep, weight.shape
        ctx.save_for_backward(built if keep else x, kernel)
        return F.conv2d(built.permute(0, 3, 1, 2), kernel[:, :, None, None])

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, Tensor, None]:
        kept, kernel = ctx.saved_tensors
        built = kept if ctx.keep else columns(kept)
        rows = gradients[0].permute(0, 2, 3, 1)
        batch, height, width, outputs = rows.shape
        weight = rows.reshape(-1, outputs).T @ built.reshape(-1, built.shape[-1])
        into = F.conv2d(gradients[0], kernel.T.contiguous()[:, :, None, None]).permute(0, 2, 3, 1)
        into = into.unflatten(3, (TAPS, TAPS, -1))
        padded = rows.new_zeros(batch, height + 2 * FAR, width + 2 * FAR, into.shape[-1])
        for down in range(TAPS):
            for right in range(TAPS):
                for rate in (NEAR, FAR):
                    top, left = FAR + rate * (down - 1), FAR + rate * (right - 1)
                    padded[:, top : top + height, left : left + width] += into[:, :, :, down, right]
        x = padded[:, FAR:-FAR, FAR:-FAR].permute(0, 3, 1, 2)
        return x, 0.5 * weight.unflatten(1, (TAPS, TAPS, -1)).permute(0, 3, 1, 2), None


def held(run: Callable[[], Tensor]) -> int:
    """Bytes that a forward pass keeps for its backward pass."""
    kept: dict[int, int] = {}

    def note(tensor: Tensor) -> Tensor:
        kept[tensor.untyped_storage().data_ptr()] = tensor.untyped_storage().nbytes()
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(note, lambda tensor: tensor):
        run()
    return sum(kept.values())


def main() -> None:
    """Print a table, and write its rows with --json."""
    parser = make_parser(__doc__)
    parser.add_argument("--batch", type=int, default=16)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--threads", type=int, default=2)
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    rows = []
    for inputs, outputs, side in LAYERS:
        torch.manual_seed(0)
        hybrid = HybridConv2d(inputs, outputs, bias=False).to(memory_format=torch.channels_last)
        single = nn.Conv2d(inputs, outputs, 3, padding=1, bias=False).to(memory_format=torch.channels_last)
        x = torch.randn(arguments.batch, inputs, side, side).contiguous(memory_format=torch.channels_last)
        x.requires_grad_()
        forms: dict[str, Callable[[], Tensor]] = {
            "one convolution": lambda single=single, x=x: single(x),
            "two": lambda hybrid=hybrid, x=x: hybrid(x),
            "averaged": lambda hybrid=hybrid, x=x: Averaged.apply(x, hybrid.weight, True),
            "averaged, again": lambda hybrid=hybrid, x=x: Averaged.apply(x, hybrid.weight, False),
        }
        (expected,) = torch.autograd.grad(forms["two"]().square().sum(), hybrid.weight)
        (found,) = torch.autograd.grad(forms["averaged"]().square().sum(), hybrid.weight)
        assert (found - expected).norm() < 1e-4 * expected.norm()
        times: dict[str, list[float]] = {name: [] for name in forms}
        for turn in range(arguments.rounds + 1):
            for name, run in forms.items():
                start = time.perf_counter()
                run().sum().backward()
                if turn:
                    times[name].append(time.perf_counter() - start)
        base = statistics.median(times["one convolution"])
        for name, values in times.items():
            seconds = statistics.median(values)
            memory = held(forms[name]) / 2**20
            layer = {"channels": f"{inputs}->{outputs}", "side": side, "form": name}
            rows.append({**layer, "seconds": seconds, "ratio": seconds / base, "held_mib": memory})
    print(f"{'channels':10} {'map':>4} {'form':16} {'ms':>8} {'of one conv.':>12} {'held MiB':>9}")
    for row in rows:
        print(
            f"{row['channels']:10} {row['side']:4} {row['form']:16} {1000 * row['seconds']:8.1f} {row['ratio']:12.2f} "
            f"{row['held_mib']:9.1f}"
        )
    save_rows(rows, arguments.json)


if __name__ == "__main__":
    main()
