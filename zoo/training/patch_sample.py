"""A fair sample of patches from a stream of batches, however long the stream is and however it is batched."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from zoo.errors import DataError


@dataclass(frozen=True)
class PatchSample:
    """Patches held in memory.

    Attributes:
        images: float32 ``(N, C, H, W)``, NaN where missing.
        seen: patches of the stream.
        blank: of those, patches without a single valid pixel; they are not in the sample.
    """

    images: Tensor
    seen: int
    blank: int

    def __len__(self) -> int:
        """Give the number of patches held."""
        return len(self.images)

    def batches(self, size: int) -> Iterator[Tensor]:
        """The patches in batches of ``size``, the last one perhaps smaller."""
        for first in range(0, len(self), size):
            yield self.images[first : first + size]

    @classmethod
    def draw(cls, batches: Iterable[Tensor], names: Sequence[str], *, pixels: int, seed: int) -> PatchSample:
        """Hold as many patches as make ``pixels``, each of the stream with the same chance (reservoir sampling).

        Args:
            batches: float32 ``(B, C, H, W)``, all patches of one size.
            names: of the bands, for errors.
            pixels: most pixels to hold; at least one patch is.
            seed: of the draw.

        Raises:
            DataError: if a batch has another shape or an infinity, or no patch has a valid pixel.
        """
        rng = np.random.default_rng(seed)
        held: list[tuple[int, Tensor]] = []
        room = seen = blank = 0
        for batch in batches:
            _check(batch, names, held[0][1] if held else None)
            room = room or max(1, pixels // (batch.shape[-2] * batch.shape[-1]))
            for patch in batch:
                seen += 1
                if bool(torch.isnan(patch).any(0).all()):
                    blank += 1
                    continue
                number = seen - blank - 1
                place = number if number < room else int(rng.integers(number + 1))
                if number < room:
                    held.append((number, _copy(patch)))
                elif place < room:
                    held[place] = (number, _copy(patch))
        if not held:
            problem = "no patch was given" if not seen else f"all {seen} patches are nodata in a band at every pixel"
            raise DataError(f"there is nothing to adapt to: {problem}", hint="Name a target that holds images")
        return cls(torch.stack([patch for _, patch in sorted(held, key=lambda one: one[0])]), seen, blank)


def _copy(patch: Tensor) -> Tensor:
    # A view would keep its whole batch in memory.
    return patch.detach().to("cpu", torch.float32, copy=True)


def _check(batch: Tensor, names: Sequence[str], first: Tensor | None) -> None:
    if batch.ndim != 4 or batch.shape[1] != len(names):
        raise DataError(
            f"expected batches of shape (B, {len(names)}, H, W), got {tuple(batch.shape)}",
            hint="The bundle takes " + ", ".join(names),
        )
    if first is not None and batch.shape[1:] != first.shape:
        raise DataError(f"patches of {tuple(batch.shape[1:])} follow patches of {tuple(first.shape)}")
    infinite = torch.isinf(batch)
    if bool(infinite.any()):
        band = int(infinite.any(0).flatten(1).any(1).nonzero()[0])
        raise DataError(
            "holds an infinity", where=f"band {names[band]!r} of the target", hint="Mark such pixels as nodata"
        )
