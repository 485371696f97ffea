"""What an audit found: who touches whom, and a verdict."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

KINDS: Mapping[str, str] = {
    "exact": "the same pixels",
    "similar": "the same picture, turned, brightened or compressed anew",
    "overlap": "a part of the same ground, shifted",
    "landslide": "a landslide of the same outline",
    "neighbour": "side by side on the ground",
    "scene": "the same scene, and nothing says how far apart",
}
"""Kinds of leakage, the gravest first."""


@dataclass(frozen=True)
class Touch:
    """Two patches of different splits that know too much of each other.

    Attributes:
        kind: one of :data:`KINDS`.
        splits: the two splits, in the order train, val, test.
        one: name of the patch of the first.
        other: name of the patch of the second.
        measure: what ``value`` is: "correlation", "distance" in patches, or "pixels" of the landslide.
        value: how much they touch.
        landslide_pixels: pixels of landslide that both show at one place; None where the two cannot be laid over
            each other.
        detail: shift or turn, in words.
    """

    kind: str
    splits: tuple[str, str]
    one: str
    other: str
    measure: str
    value: float
    landslide_pixels: int | None = None
    detail: str = ""


@dataclass(frozen=True)
class SharedScene:
    """A scene, event or region that has patches in two splits.

    Attributes:
        group: its name.
        splits: the two splits.
        counts: its patches in each.
        distance: smallest distance between patches of the two, in patches; None when places are not known.
        reach: distance up to which patches of this data set touch.
    """

    group: str
    splits: tuple[str, str]
    counts: tuple[int, int]
    distance: int | None
    reach: int = 1

    @property
    def leaks(self) -> bool:
        """Whether nothing keeps the two parts apart: with known places, touching pairs are neighbours instead."""
        return self.distance is None


@dataclass(frozen=True)
class AuditSummary:
    """What is told of an audit, and kept in result files.

    Attributes:
        leaks: whether any two splits touch; None when the audit could not be done.
        verdict: one line that says so, and what was left out.
        touched: first split, second split, kind of :data:`KINDS` or "" for all together, and how many patches of the
            second touch the first.
    """

    leaks: bool | None
    verdict: str
    touched: tuple[tuple[str, str, str, int], ...] = ()

    def to_dict(self) -> dict[str, Any]:
        """Plain JSON values."""
        names = ("first", "second", "kind", "patches")
        touched = [dict(zip(names, one, strict=True)) for one in self.touched]
        return {"leaks": self.leaks, "verdict": self.verdict, "touched": touched}

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> AuditSummary:
        """The inverse of :meth:`to_dict`.

        Raises:
            KeyError: if something is missing.
            TypeError: if something is of another type.
            ValueError: if the numbers say something else than ``leaks``.
        """
        leaks, verdict = values["leaks"], values["verdict"]
        if not isinstance(verdict, str) or not (leaks is None or isinstance(leaks, bool)):
            raise TypeError("an audit needs a verdict, and whether there is a leak")
        touched = tuple(
            (str(one["first"]), str(one["second"]), str(one["kind"]), int(one["patches"])) for one in values["touched"]
        )
        if bool(touched) != bool(leaks):
            raise ValueError("the audit's numbers of patches do not fit its verdict")
        return cls(leaks, verdict, touched)


@dataclass(frozen=True)
class Audit:
    """What was found between the splits of a data set.

    Attributes:
        sizes: patches of each split.
        touches: all pairs of patches that touch.
        scenes: all scenes that two splits share.
        touched: for each pair of splits and each kind, the number of patches of the second that touch the first;
            kind "" for all kinds together.
        notes: what could not be checked, and what was left out.
        seconds: what it took.
    """

    sizes: Mapping[str, int]
    touches: tuple[Touch, ...]
    scenes: tuple[SharedScene, ...]
    touched: Mapping[tuple[str, str], Mapping[str, int]]
    notes: tuple[str, ...]
    seconds: float

    @property
    def leaks(self) -> bool:
        """Whether any two splits touch."""
        return any(counts.get("", 0) for counts in self.touched.values())

    def of_kind(self, kind: str) -> Sequence[Touch]:
        """Give the pairs of one kind, the closest first."""
        return [touch for touch in self.touches if touch.kind == kind]

    def verdict(self) -> str:
        """Say in one line whether the splits leak."""
        if not self.leaks:
            sizes = "/".join(str(size) for size in self.sizes.values())
            return f"no leak found between {sizes} patches ({self.seconds:.1f} s)"
        parts = [
            f"{counts['']} of {self.sizes[second]} {_word(second)} patches touch {_word(first)} patches"
            for (first, second), counts in self.touched.items()
            if counts.get("", 0)
        ]
        return f"LEAK {'; '.join(parts)}"

    def summary(self) -> AuditSummary:
        """Give the verdict, the notes behind it, and the numbers of patches that touch."""
        touched = tuple(
            (first, second, kind, count)
            for (first, second), counts in self.touched.items()
            for kind, count in counts.items()
            if count
        )
        return AuditSummary(self.leaks, "; ".join((self.verdict(), *self.notes)), touched)

    def to_dict(self) -> dict[str, Any]:
        """Give plain JSON values: everything, every pair included."""
        return {
            "leaks": self.leaks,
            "verdict": self.verdict(),
            "patches": dict(self.sizes),
            "touched": [
                {"splits": list(pair), "kind": kind or "any", "patches": count}
                for pair, counts in self.touched.items()
                for kind, count in counts.items()
            ],
            "pairs": [
                {
                    "kind": touch.kind,
                    "splits": list(touch.splits),
                    "patches": [touch.one, touch.other],
                    touch.measure: touch.value,
                    "landslide_pixels": touch.landslide_pixels,
                    "detail": touch.detail,
                }
                for touch in self.touches
            ],
            "shared_scenes": [
                {
                    "scene": scene.group,
                    "splits": list(scene.splits),
                    "patches": list(scene.counts),
                    "distance": scene.distance,
                    "reach": scene.reach,
                    "leaks": scene.leaks,
                }
                for scene in self.scenes
            ],
            "notes": list(self.notes),
            "seconds": round(self.seconds, 2),
        }


def _word(split: str) -> str:
    return {"train": "training", "val": "validation"}.get(split, split)
