"""The two factors of P(F | R, S) = P(F | R) c, and their product at full precision."""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from zoo.blocks.checks import check_positive


class RainHistory(nn.Module):
    """P(F | R): probability that the rain of the last hours triggers a landslide where one can occur.

    The network uses two series, the rain of each hour and the depth from that hour until now, both as ln(1 + mm). The
    second is the axis of a depth-duration threshold [O]. Each of three convolutions along time halves the length. Two
    dense layers follow, so that the output depends on the time since the rain [O].

    Args:
        hours: length of the history, 1 or more.
        width: channels of the first convolution.

    Shape:
        float32 ``(N, hours)`` in mm per step, latest step first -> logits ``(N,)``.

    Raises:
        ConfigError: if an argument is not a positive integer.
    """

    def __init__(self, hours: int = 72, width: int = 8) -> None:
        super().__init__()
        check_positive(self, hours=hours, width=width)
        self.hours = hours
        layers: list[nn.Module] = []
        left = hours
        for before, after in ((2, width), (width, 2 * width), (2 * width, 2 * width)):
            layers += [nn.Conv1d(before, after, 5, stride=2, padding=2), nn.ReLU()]
            left = math.ceil(left / 2)
        self.time = nn.Sequential(*layers, nn.Flatten())
        self.head = nn.Sequential(nn.Linear(2 * width * left, 4 * width), nn.ReLU(), nn.Linear(4 * width, 1))

    def forward(self, rain: Tensor) -> Tensor:
        """Return the logits of ``rain``."""
        series = torch.stack([rain, rain.cumsum(1)], 1).log1p()
        logits: Tensor = self.head(self.time(series))
        return logits[:, 0]


class SlopeMask(nn.Module):
    """c: possibility of a landslide, a sigmoid that increases with the slope [O].

    Shape:
        slope of any shape, centred and scaled -> logits of that shape.
    """

    def __init__(self) -> None:
        super().__init__()
        self.threshold = nn.Parameter(torch.zeros(()))
        self.log_steepness = nn.Parameter(torch.zeros(()))

    def forward(self, slope: Tensor) -> Tensor:
        """Return the logits of ``slope``."""
        return self.log_steepness.exp() * (slope - self.threshold)


def log_product(a: Tensor, b: Tensor) -> tuple[Tensor, Tensor]:
    """Return ln(1 - p) and ln p of p = sigmoid(a) sigmoid(b), which are exact even if p underflows or rounds to 1.

    Args:
        a: logits of one factor.
        b: logits of the other factor, broadcastable to ``a``.
    """
    a, b = a.float(), b.float()
    yes = F.logsigmoid(a) + F.logsigmoid(b)
    no = torch.logaddexp(F.logsigmoid(-a), F.logsigmoid(a) + F.logsigmoid(-b))
    return no, yes
