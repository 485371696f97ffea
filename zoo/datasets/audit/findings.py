"""Findings of an audit: pairs of touching patches, shared scenes, and the verdict. Does not import torch."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from zoo.schema import JsonValue, to_plain

if TYPE_CHECKING:
    import pandas

KINDS: Mapping[str, str] = {
    "exact": "equal pixels",
    "similar": "the same picture, rotated, reflected, brightened or compressed again",
    "overlap": "a part of the same ground, shifted",
    "landslide": "a landslide with the same outline",
    "neighbour": "side by side on the ground",
    "scene": "the same scene, at an unknown distance",
}
"""Kinds of leakage, most serious first, each with its meaning."""

ANY_KIND = ""
"""All kinds together, so that a patch that touches in two ways counts once."""


@dataclass(frozen=True)
class TouchingPair:
    """Two patches of different splits that share information.

    Attributes:
        kind: one of :data:`KINDS`.
        splits: the two splits, in the order train, val, test.
        patches: names of the patch of the first split and of the patch of the second.
        correlation: correlation of the two images, for the kinds exact, similar and overlap.
        distance: distance on the grid in patches, for the kind neighbour.
        pixels: size of the shared landslide, for the kind landslide.
        landslide_pixels: number of pixels that are landslide in both patches at the same place; None if the patches
            cannot be aligned.
        detail: shift or orientation of the second patch, in words.
    """

    kind: str
    splits: tuple[str, str]
    patches: tuple[str, str]
    correlation: float | None = None
    distance: int | None = None
    pixels: int | None = None
    landslide_pixels: int | None = None
    detail: str = ""

    @property
    def measure(self) -> str:
        """Return the name of the measure for this kind: "correlation", "distance" or "pixels"."""
        return next(name for name in ("correlation", "distance", "pixels") if getattr(self, name) is not None)

    @property
    def value(self) -> float:
        """Return the value of the measure."""
        return float(getattr(self, self.measure))


@dataclass(frozen=True)
class SharedScene:
    """Scene, event or region with patches in two splits.

    Attributes:
        scene: name of the scene.
        splits: the two splits.
        patches: number of its patches in each split.
        distance: smallest distance between patches of the two splits, in patches; None if locations are unknown.
        reach: maximum distance at which patches of this data set touch.
    """

    scene: str
    splits: tuple[str, str]
    patches: tuple[int, int]
    distance: int | None
    reach: int = 1

    @property
    def leaks(self) -> bool:
        """Return whether the scene counts as a leak; if locations are known, neighbours are reported instead."""
        return self.distance is None


@dataclass(frozen=True)
class TouchedPatches:
    """Number of patches of one split that touch patches of another split.

    Attributes:
        first: name of the first split.
        second: name of the second split.
        kind: one of :data:`KINDS`, or :data:`ANY_KIND`.
        patches: number of patches of the second split that touch the first.
    """

    first: str
    second: str
    kind: str
    patches: int


@dataclass(frozen=True)
class AuditSummary:
    """Summary of an audit, stored in result files.

    Attributes:
        leaks: whether any two splits touch; None if the audit could not be done.
        verdict: the result in one line, including what was not checked.
        touched: numbers of touching patches, for each pair of splits and kind with at least one.

    Raises:
        ValueError: if the numbers contradict ``leaks``.
    """

    leaks: bool | None
    verdict: str
    touched: tuple[TouchedPatches, ...] = ()

    def __post_init__(self) -> None:
        if bool(self.touched) != bool(self.leaks):
            raise ValueError("the numbers of touching patches contradict the verdict")


@dataclass(frozen=True, repr=False)
class Audit:
    """Result of an audit of the splits of a data set.

    Attributes:
        sizes: number of patches of each split.
        pairs: all pairs of touching patches, most serious kind first.
        scenes: all scenes shared by two splits.
        touched: number of patches of the second split that touch the first, for each pair of splits and each kind
            that occurs, and for all kinds together (:data:`ANY_KIND`).
        notes: what could not be checked or was skipped.
        seconds: duration of the audit.
    """

    sizes: Mapping[str, int]
    pairs: tuple[TouchingPair, ...]
    scenes: tuple[SharedScene, ...]
    touched: tuple[TouchedPatches, ...]
    notes: tuple[str, ...]
    seconds: float

    @property
    def kinds(self) -> Mapping[str, str]:
        """Return the kinds of leakage that an audit searches for, most serious first, each with its meaning."""
        return KINDS

    @property
    def leaks(self) -> bool:
        """Return whether any two splits touch."""
        return any(entry.patches for entry in self.touched)

    def of_kind(self, kind: str) -> Sequence[TouchingPair]:
        """Return the pairs of one kind, closest first."""
        return [pair for pair in self.pairs if pair.kind == kind]

    def verdict(self) -> str:
        """Return one line that states whether the splits leak."""
        if not self.leaks:
            sizes = "/".join(str(size) for size in self.sizes.values())
            return f"no leak found between {sizes} patches ({self.seconds:.1f} s)"
        parts = [
            f"{entry.patches} of {self.sizes[entry.second]} {_split_adjective(entry.second)} patches touch "
            f"{_split_adjective(entry.first)} patches"
            for entry in self.touched
            if entry.kind == ANY_KIND and entry.patches
        ]
        return f"LEAK {'; '.join(parts)}"

    def summary(self) -> AuditSummary:
        """Return the verdict with its notes, and the numbers of touching patches."""
        touched = tuple(entry for entry in self.touched if entry.patches)
        return AuditSummary(self.leaks, "; ".join((self.verdict(), *self.notes)), touched)

    def to_pandas(self) -> pandas.DataFrame:
        """Return all pairs of touching patches as a table, one row per pair."""
        import pandas as pd

        columns = ["kind", "first_split", "second_split", "first_patch", "second_patch"]
        measures = ["correlation", "distance", "pixels", "landslide_pixels", "detail"]
        rows = [
            [pair.kind, *pair.splits, *pair.patches, *(getattr(pair, name) for name in measures)] for pair in self.pairs
        ]
        return pd.DataFrame(rows, columns=[*columns, *measures])

    def to_json(self) -> dict[str, JsonValue]:
        """Return all findings, with every pair, as plain JSON values."""
        pairs: list[JsonValue] = [
            {name: value for name, value in to_plain(pair).items() if value is not None or name == "landslide_pixels"}
            for pair in self.pairs
        ]
        return {
            "leaks": self.leaks,
            "verdict": self.verdict(),
            "patches": dict(self.sizes),
            "touched": [
                {"splits": [entry.first, entry.second], "kind": entry.kind or "any", "patches": entry.patches}
                for entry in self.touched
            ],
            "pairs": pairs,
            "shared_scenes": [{**to_plain(scene), "leaks": scene.leaks} for scene in self.scenes],
            "notes": list(self.notes),
            "seconds": round(self.seconds, 2),
        }

    def __repr__(self) -> str:
        return f"<Audit: {self.verdict()}>"

    def __str__(self) -> str:
        lines = [f"audit: {self.verdict()}"]
        for entry in self.touched:
            if entry.kind != ANY_KIND:
                lines.append(
                    f"  {entry.kind}: {entry.patches} of {self.sizes[entry.second]} {entry.second} patches, "
                    f"against {entry.first} ({KINDS[entry.kind]})"
                )
        return "\n".join([*lines, *(f"  note: {note}" for note in self.notes)])


def _split_adjective(split: str) -> str:
    return {"train": "training", "val": "validation"}.get(split, split)
