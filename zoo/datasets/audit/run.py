"""The audit itself: every check between every two splits."""

from __future__ import annotations

import time
from collections import Counter, defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from itertools import combinations

import numpy as np
from numpy.typing import NDArray
from scipy.spatial import cKDTree

from zoo.datasets.audit.looks import Looks, look_at
from zoo.datasets.audit.outlines import turns
from zoo.datasets.audit.overlap import Landmarks, find_landmarks, find_overlaps, overlap
from zoo.datasets.audit.report import KINDS, Audit, SharedScene, Touch
from zoo.datasets.audit.similar import Match, evenly, find_similar, texture
from zoo.datasets.base import SPLITS, Patch, PatchDataset
from zoo.datasets.splits import neighbour_pairs
from zoo.errors import DataError

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
    looks = look_at(chosen, lambda done, total: say("reading patches", done, total))
    raw = texture(looks.grey)
    fine = evenly(raw)
    # What the test split shares with training spoils the figures most, so it comes first.
    pairs = sorted(combinations(chosen, 2), key=lambda pair: pair != ("train", "test"))
    landmarks = {name: find_landmarks(raw, places) for name, places in looks.splits.items()} if overlaps else {}
    reach = max(dataset.reach for dataset in chosen.values())
    touches: list[Touch] = []
    scenes: list[SharedScene] = []
    touched: dict[tuple[str, str], dict[str, int]] = {}
    for pair in pairs:
        found = _between(pair, looks, fine, landmarks, reach, say)
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
        notes=tuple(_notes(looks, overlaps)),
        seconds=time.perf_counter() - started,
    )


def _between(
    pair: tuple[str, str],
    looks: Looks,
    fine: NDArray[np.float32],
    landmarks: Mapping[str, Landmarks],
    reach: int,
    say: Progress,
) -> list[Touch]:
    left, right = looks.splits[pair[0]], looks.splits[pair[1]]
    touches = []
    known: set[tuple[int, int]] = set()
    for one, other in _exact(looks, left, right):
        known.add((one, other))
        shared = int((looks.landslide(one) & looks.landslide(other)).sum())
        touches.append(_touch("exact", pair, looks, one, other, "correlation", 1.0, shared))
    matches = find_similar(looks.grey, fine, left, right)
    if landmarks:
        ours, theirs = landmarks[pair[0]], landmarks[pair[1]]
        for done, found in find_overlaps(looks.grey, fine, ours, theirs):
            say(f"comparing {pair[0]} and {pair[1]}", done, len(ours.owners))
            matches += found
    # The same pair may come back shifted; whole matches come first and win.
    for match in matches:
        if (match.one, match.other) in known:
            continue
        known.add((match.one, match.other))
        kind = "overlap" if match.shift != (0, 0) else "similar"
        shared = _shared_landslide(looks, match)
        correlation = round(match.correlation, 4)
        detail = _words(match, looks.factor)
        touches.append(_touch(kind, pair, looks, match.one, match.other, "correlation", correlation, shared, detail))
    for one, other, pixels in _same_outlines(looks, left, right):
        if (one, other) not in known:
            touches.append(_touch("landslide", pair, looks, one, other, "pixels", float(pixels)))
    for one, other in _neighbours(looks, left, right, reach):
        apart = float(_apart(looks.patches[one], looks.patches[other]))
        touches.append(_touch("neighbour", pair, looks, one, other, "distance", apart))
    return touches


def _neighbours(looks: Looks, left: range, right: range, reach: int) -> Iterator[tuple[int, int]]:
    sides = (looks.patches[side.start : side.stop] for side in (left, right))
    for one, other in neighbour_pairs(*sides, guard=reach).tolist():
        yield left[one], right[other]


def _exact(looks: Looks, left: range, right: range) -> Iterator[tuple[int, int]]:
    owners: dict[bytes, list[int]] = defaultdict(list)
    for index in left:
        if not looks.blank[index]:
            owners[looks.digests[index]].append(index)
    for index in right:
        for one in owners.get(looks.digests[index], ()):
            yield one, index


def _same_outlines(looks: Looks, left: range, right: range) -> Iterator[tuple[int, int, int]]:
    """Pairs with a landslide in common, and the size of the largest."""
    owners: dict[bytes, list[int]] = defaultdict(list)
    for index in left:
        for outline in looks.outlines[index]:
            owners[outline.key].append(index)
    largest: Counter[tuple[int, int]] = Counter()
    for index in right:
        for outline in looks.outlines[index]:
            for one in owners.get(outline.key, ()):
                largest[one, index] = max(largest[one, index], outline.pixels)
    for (one, index), pixels in sorted(largest.items()):
        yield one, index, pixels


def _shared_landslide(looks: Looks, match: Match) -> int:
    first, second = looks.landslide(match.one), list(turns(looks.landslide(match.other)))[match.turn]
    down, across = (looks.factor * step for step in match.shift)
    here, there = overlap(looks.shape, down, across)
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


def _count(touches: Sequence[Touch], scenes: Sequence[SharedScene], second: Sequence[Patch]) -> dict[str, int]:
    names: dict[str, set[str]] = defaultdict(set)
    for touch in touches:
        names[touch.kind].add(touch.other)
    leaking = {scene.group for scene in scenes if scene.leaks}
    if leaking:
        names["scene"] = {patch.name for patch in second if patch.group in leaking}
    everyone = set().union(*names.values())
    return {**{kind: len(names[kind]) for kind in KINDS if kind in names}, "": len(everyone)}


def _notes(looks: Looks, overlaps: bool) -> Iterator[str]:
    homeless = sum(patch.row is None or patch.col is None for patch in looks.patches)
    if homeless:
        whose = "no patch has" if homeless == len(looks.patches) else f"{homeless} patches have no"
        yield f"{whose} a known place, so neighbours were not looked for there"
    if not any(patch.group for patch in looks.patches):
        yield "scenes are not known, so shared ones could not be found"
    if looks.blank.any():
        yield f"{int(looks.blank.sum())} blank patches (one value a band, or none) were compared by place alone"
    if not overlaps:
        yield "shifted overlaps were not looked for"


def _touch(
    kind: str,
    pair: tuple[str, str],
    looks: Looks,
    one: int,
    other: int,
    measure: str,
    value: float,
    shared: int | None = None,
    detail: str = "",
) -> Touch:
    return Touch(kind, pair, looks.patches[one].name, looks.patches[other].name, measure, value, shared, detail)


def _words(match: Match, factor: int) -> str:
    down, across = (step * factor for step in match.shift)
    parts = []
    if down:
        parts.append(f"{abs(down)} px {'below' if down > 0 else 'above'}")
    if across:
        parts.append(f"{abs(across)} px {'right' if across > 0 else 'left'}")
    return " and ".join(parts) or _TURNED[match.turn]


def _distance(touch: Touch) -> float:
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
