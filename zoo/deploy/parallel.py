"""The images of a batch beside each other, each on its own cores, instead of all cores on one image."""

from __future__ import annotations

import math
import os
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from threading import Thread
from typing import Any

import torch
from torch import Tensor, nn


class ParallelForm(nn.Module):
    """A form that runs on several parts of a batch at the same time.

    Threads that share one operation wait for each other at its end, and take turns in the cache with what it reads and
    writes. Those that have images of their own do neither.

    Args:
        form: to run; the parts share its weights.
        streams: parts at the same time.
        threads: of each.
        images: of a part, at most; a small batch is divided evenly.

    Shape:
        As ``form``, whose results it puts together; without a gradient.
    """

    def __init__(self, form: nn.Module, *, streams: int, threads: int, images: int) -> None:
        super().__init__()
        self.form = form
        self.streams = streams
        self.threads = threads
        self.images = images
        self._pool: tuple[int, ThreadPoolExecutor] | None = None
        self.eval()

    def forward(self, x: Tensor) -> Tensor:
        size = min(self.images, math.ceil(len(x) / self.streams))
        parts = torch.split(x, size)
        if len(parts) == 1:
            return self._part(x)
        return torch.cat(list(self._executor().map(self._part, parts)))

    def _part(self, x: Tensor) -> Tensor:
        # Whether gradients are kept is known to each thread by itself.
        with torch.no_grad():
            logits: Tensor = self.form(x)
        return logits

    def _executor(self) -> ThreadPoolExecutor:
        # Threads do not live on in a child process that was forked.
        if self._pool is None or self._pool[0] != os.getpid():
            start = partial(_use_threads, self.threads, torch.get_num_threads())
            self._pool = os.getpid(), ThreadPoolExecutor(self.streams, "zoo-images", start)
        return self._pool[1]

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "_pool": None}


def _use_threads(count: int, elsewhere: int) -> None:
    """Give operations that this thread starts ``count`` threads, and those of other threads ``elsewhere``, as before.

    torch has a number for each thread that has asked, and one that threads take over when they first ask; setting the
    one sets the other.
    """
    torch.get_num_threads()
    torch.set_num_threads(count)
    restorer = Thread(target=torch.set_num_threads, args=(elsewhere,))
    restorer.start()
    restorer.join()
