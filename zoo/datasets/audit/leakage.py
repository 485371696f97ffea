"""The audit of the splits of a data set: its checks, its findings, and the cache of verdicts."""

from __future__ import annotations

import hashlib
import json
import time
from collections import Counter, defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from itertools import combinations
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.spatial import cKDTree

from zoo.datasets.audit.matching import (
    Landmarks,
    Match,
    evenly,
    find_landmarks,
    find_overlaps,
    find_similar,
    overlap,
    texture,
)
from zoo.datasets.audit.signatures import PatchSignatures, compute_signatures, turns
from zoo.datasets.base import SPLITS, Patch, PatchDataset
from zoo.datasets.splits import neighbour_pairs
from zoo.errors import DataError, ZooError
from zoo.files import cache_folder, write_json_atomic

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
class TouchingPair:
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
    touches: tuple[TouchingPair, ...]
    scenes: tuple[SharedScene, ...]
    touched: Mapping[tuple[str, str], Mapping[str, int]]
    notes: tuple[str, ...]
    seconds: float

    @property
    def leaks(self) -> bool:
        """Whether any two splits touch."""
        return any(counts.get("", 0) for counts in self.touched.values())

    def of_kind(self, kind: str) -> Sequence[TouchingPair]:
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


Progress = Callable[[str, int, int], None]

_TURNED = (
    "",
    "turned by 90",
    "turned by 180",
    "turned by 270",
    "reflected",
    "reflected, turned by 90",
    "reflected, turned by 180",
    "reflected, turned by 270",
)


def audit(splits: Mapping[str, PatchDataset], *, overlaps: bool = True, progress: Progress | None = None) -> Audit:
    """Find what the splits of a data set share.

    * exact: images whose pixels are equal, blank images left out
    * similar: the same picture after turns, reflections, brightness and compression
    * overlap: patches that see 15 % or more of the same ground, shifted by any number of pixels
    * landslide: a landslide of 60 pixels or more with the same outline, such as one place at two dates
    * neighbour: a grid distance of 1 within one scene, corners included; more where the data set says that its patches
      overlap
    * scene: patches of one scene in two splits whose places are not known. Where they are known, a shared scene is
      only reported: what touches there is a neighbour, and what is guarded is not

    Args:
        splits: data sets by split name; missing ones are not compared.
        overlaps: look for shifted overlaps, the slowest of the checks.
        progress: called with what is done, and how much of how much.

    Returns:
        Everything found, each pair under the gravest kind that fits, neighbours and landslides apart from that.

    Raises:
        DataError: if the splits have other bands or sizes, or hold no patch.
    """
    started = time.perf_counter()
    chosen = {name: splits[name] for name in sorted(splits, key=_rank)}
    _check(chosen)
    say = progress or _silent
    signatures = compute_signatures(chosen, lambda done, total: say("reading patches", done, total))
    raw = texture(signatures.grey)
    fine = evenly(raw)
    # What the test split shares with training spoils the figures most, so it comes first.
    pairs = sorted(combinations(chosen, 2), key=lambda pair: pair != ("train", "test"))
    landmarks = {name: find_landmarks(raw, places) for name, places in signatures.splits.items()} if overlaps else {}
    reach = max(dataset.reach for dataset in chosen.values())
    touches: list[TouchingPair] = []
    scenes: list[SharedScene] = []
    touched: dict[tuple[str, str], dict[str, int]] = {}
    for pair in pairs:
        found = _between(pair, signatures, fine, landmarks, reach, say)
        shared = _shared_scenes(pair, chosen, reach)
        touches += found
        scenes += shared
        touched[pair] = _count(found, shared, chosen[pair[1]].patches)
    order = list(KINDS)
    touches.sort(key=lambda touch: (order.index(touch.kind), pairs.index(touch.splits), _distance(touch)))
    return Audit(
        sizes={name: len(dataset) for name, dataset in chosen.items()},
        touches=tuple(touches),
        scenes=tuple(scenes),
        touched=touched,
        notes=tuple(_notes(signatures, overlaps)),
        seconds=time.perf_counter() - started,
    )


def _between(
    pair: tuple[str, str],
    signatures: PatchSignatures,
    fine: NDArray[np.float32],
    landmarks: Mapping[str, Landmarks],
    reach: int,
    say: Progress,
) -> list[TouchingPair]:
    left, right = signatures.splits[pair[0]], signatures.splits[pair[1]]
    touches = []
    known: set[tuple[int, int]] = set()
    for one, other in _exact(signatures, left, right):
        known.add((one, other))
        shared = int((signatures.landslide(one) & signatures.landslide(other)).sum())
        touches.append(_touch("exact", pair, signatures, one, other, "correlation", 1.0, shared))
    matches = find_similar(signatures.grey, fine, left, right)
    if landmarks:
        ours, theirs = landmarks[pair[0]], landmarks[pair[1]]
        for done, found in find_overlaps(signatures.grey, fine, ours, theirs):
            say(f"comparing {pair[0]} and {pair[1]}", done, len(ours.owners))
            matches += found
    # The same pair may come back shifted; whole matches come first and win.
    for match in matches:
        if (match.one, match.other) in known:
            continue
        known.add((match.one, match.other))
        kind = "overlap" if match.shift != (0, 0) else "similar"
        shared = _shared_landslide(signatures, match)
        correlation = round(match.correlation, 4)
        detail = _words(match, signatures.factor)
        touches.append(
            _touch(kind, pair, signatures, match.one, match.other, "correlation", correlation, shared, detail)
        )
    for one, other, pixels in _same_outlines(signatures, left, right):
        if (one, other) not in known:
            touches.append(_touch("landslide", pair, signatures, one, other, "pixels", float(pixels)))
    for one, other in _neighbours(signatures, left, right, reach):
        apart = float(_apart(signatures.patches[one], signatures.patches[other]))
        touches.append(_touch("neighbour", pair, signatures, one, other, "distance", apart))
    return touches


def _neighbours(signatures: PatchSignatures, left: range, right: range, reach: int) -> Iterator[tuple[int, int]]:
    sides = (signatures.patches[side.start : side.stop] for side in (left, right))
    for one, other in neighbour_pairs(*sides, guard=reach).tolist():
        yield left[one], right[other]


def _exact(signatures: PatchSignatures, left: range, right: range) -> Iterator[tuple[int, int]]:
    owners: dict[bytes, list[int]] = defaultdict(list)
    for index in left:
        if not signatures.blank[index]:
            owners[signatures.digests[index]].append(index)
    for index in right:
        for one in owners.get(signatures.digests[index], ()):
            yield one, index


def _same_outlines(signatures: PatchSignatures, left: range, right: range) -> Iterator[tuple[int, int, int]]:
    """Pairs with a landslide in common, and the size of the largest."""
    owners: dict[bytes, list[int]] = defaultdict(list)
    for index in left:
        for outline in signatures.outlines[index]:
            owners[outline.key].append(index)
    largest: Counter[tuple[int, int]] = Counter()
    for index in right:
        for outline in signatures.outlines[index]:
            for one in owners.get(outline.key, ()):
                largest[one, index] = max(largest[one, index], outline.pixels)
    for (one, index), pixels in sorted(largest.items()):
        yield one, index, pixels


def _shared_landslide(signatures: PatchSignatures, match: Match) -> int:
    first, second = signatures.landslide(match.one), list(turns(signatures.landslide(match.other)))[match.turn]
    down, across = (signatures.factor * step for step in match.shift)
    here, there = overlap(signatures.shape, down, across)
    return int((first[here] & second[there]).sum())


def _shared_scenes(pair: tuple[str, str], splits: Mapping[str, PatchDataset], reach: int) -> list[SharedScene]:
    ours, theirs = (_by_scene(splits[name].patches) for name in pair)
    shared = []
    for group in sorted(set(ours) & set(theirs)):
        both = [*ours[group], *theirs[group]]
        distance = None
        if all(patch.row is not None and patch.col is not None for patch in both):
            places = [np.array([(patch.row, patch.col) for patch in side]) for side in (ours[group], theirs[group])]
            distance = int(np.min(cKDTree(places[0]).query(places[1], p=np.inf)[0]))
        shared.append(SharedScene(group, pair, (len(ours[group]), len(theirs[group])), distance, reach))
    return shared


def _by_scene(patches: Sequence[Patch]) -> dict[str, list[Patch]]:
    scenes: dict[str, list[Patch]] = defaultdict(list)
    for patch in patches:
        # A data set that knows no scenes calls all of them "", which says nothing about the ground.
        if patch.group or patch.row is not None:
            scenes[patch.group].append(patch)
    return scenes


def _count(touches: Sequence[TouchingPair], scenes: Sequence[SharedScene], second: Sequence[Patch]) -> dict[str, int]:
    names: dict[str, set[str]] = defaultdict(set)
    for touch in touches:
        names[touch.kind].add(touch.other)
    leaking = {scene.group for scene in scenes if scene.leaks}
    if leaking:
        names["scene"] = {patch.name for patch in second if patch.group in leaking}
    everyone = set().union(*names.values())
    return {**{kind: len(names[kind]) for kind in KINDS if kind in names}, "": len(everyone)}


def _notes(signatures: PatchSignatures, overlaps: bool) -> Iterator[str]:
    homeless = sum(patch.row is None or patch.col is None for patch in signatures.patches)
    if homeless:
        whose = "no patch has" if homeless == len(signatures.patches) else f"{homeless} patches have no"
        yield f"{whose} a known place, so neighbours were not looked for there"
    if not any(patch.group for patch in signatures.patches):
        yield "scenes are not known, so shared ones could not be found"
    if signatures.blank.any():
        yield f"{int(signatures.blank.sum())} blank patches (one value a band, or none) were compared by place alone"
    if not overlaps:
        yield "shifted overlaps were not looked for"


def _touch(
    kind: str,
    pair: tuple[str, str],
    signatures: PatchSignatures,
    one: int,
    other: int,
    measure: str,
    value: float,
    shared: int | None = None,
    detail: str = "",
) -> TouchingPair:
    return TouchingPair(
        kind, pair, signatures.patches[one].name, signatures.patches[other].name, measure, value, shared, detail
    )


def _words(match: Match, factor: int) -> str:
    down, across = (step * factor for step in match.shift)
    parts = []
    if down:
        parts.append(f"{abs(down)} px {'below' if down > 0 else 'above'}")
    if across:
        parts.append(f"{abs(across)} px {'right' if across > 0 else 'left'}")
    return " and ".join(parts) or _TURNED[match.turn]


def _distance(touch: TouchingPair) -> float:
    return touch.value if touch.measure == "distance" else -touch.value


def _apart(one: Patch, other: Patch) -> int:
    # Neighbours are found by their places, so all four are known.
    return max(abs((one.row or 0) - (other.row or 0)), abs((one.col or 0) - (other.col or 0)))


def _rank(split: str) -> int:
    return SPLITS.index(split) if split in SPLITS else len(SPLITS)


def _check(splits: Mapping[str, PatchDataset]) -> None:
    if not any(len(dataset) for dataset in splits.values()):
        raise DataError("no split holds a patch, so there is nothing to audit")
    opened = [dataset for dataset in splits.values() if len(dataset)]
    shapes = {(len(dataset.bands), *dataset.read(0)[1].shape) for dataset in opened}
    if len(shapes) > 1:
        raise DataError(f"the splits hold patches of different bands and sizes: {sorted(shapes)}")


def _silent(text: str, done: int, total: int) -> None:
    pass


VERSION = 3
"""To be raised when the audit finds more, so that old verdicts are not believed."""

MOST = 6000
"""Patches above which shifted overlaps are left to ``zoo audit``: they would take minutes [O]."""


def verdict(splits: Mapping[str, PatchDataset], fingerprints: Mapping[str, str]) -> AuditSummary:
    """Audit splits, or remember what an audit of the same patches found.

    Args:
        splits: data sets by split name.
        fingerprints: of each.

    Returns:
        Whether they leak, one line that says so, and how many patches touch.

    Raises:
        ZooError: as :func:`zoo.datasets.audit.audit`.
    """
    kept = _kept(fingerprints)
    with suppress(OSError, ValueError, KeyError, TypeError):
        return AuditSummary.from_dict(json.loads(kept.read_text(encoding="utf-8")))
    whole = sum(len(dataset) for dataset in splits.values()) <= MOST
    found = audit(splits, overlaps=whole).summary()
    # A cache that cannot be written costs the next run some seconds, and is no reason to stop this one.
    with suppress(ZooError):
        write_json_atomic(kept, found.to_dict())
    return found


def _kept(fingerprints: Mapping[str, str]) -> Path:
    content = json.dumps([VERSION, dict(fingerprints)], sort_keys=True)
    return cache_folder("audits") / f"{hashlib.sha256(content.encode()).hexdigest()[:32]}.json"
