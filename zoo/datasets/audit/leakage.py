"""Leakage audit: all checks between each pair of splits, and a cache of verdicts."""

from __future__ import annotations

import hashlib
import json
import time
from collections import Counter, defaultdict
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from itertools import combinations
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from scipy.spatial import cKDTree

from zoo.datasets.audit.findings import ANY_KIND, KINDS, Audit, AuditSummary, SharedScene, TouchedPatches, TouchingPair
from zoo.datasets.audit.matching import (
    Landmarks,
    Match,
    equalise_texture,
    extract_texture,
    find_copies,
    find_landmarks,
    find_overlaps,
    overlapping_parts,
)
from zoo.datasets.audit.signatures import PatchSignatures, compute_signatures, orientations
from zoo.datasets.base import SPLITS, Patch, PatchDataset
from zoo.datasets.splits import neighbour_pairs
from zoo.errors import DataError, ZooError
from zoo.files import cache_folder
from zoo.jobs import StageCallback
from zoo.schema import read_json, write_json

CACHE_VERSION = 3
"""Increase this when the audit finds more, so that cached verdicts of older versions are ignored."""

OVERLAP_LIMIT = 6000
"""Number of patches above which only ``zoo audit`` searches for shifted overlaps, because it takes minutes [O]."""

_ORIENTATION_WORDS = (
    "",
    "rotated by 90",
    "rotated by 180",
    "rotated by 270",
    "reflected",
    "reflected, rotated by 90",
    "reflected, rotated by 180",
    "reflected, rotated by 270",
)


def audit_splits(
    splits: Mapping[str, PatchDataset], *, overlaps: bool = True, progress: StageCallback | None = None
) -> Audit:
    """Find leaks between the splits of a data set.

    * exact: images with equal pixels, except blank images
    * similar: the same image after rotation, reflection, a change of brightness or compression
    * overlap: patches that share 15 % or more of the same ground, shifted by any number of pixels
    * landslide: a landslide of 60 pixels or more with the same outline, for example one place at two dates
    * neighbour: a distance of 1 on the grid of one scene, including diagonals; more if the data set declares that its
      patches overlap
    * scene: patches of one scene in two splits, if their locations are unknown. With known locations, a shared scene is
      only reported, because touching patches are found as neighbours

    Args:
        splits: data sets by split name; missing splits are not compared.
        overlaps: whether to search for shifted overlaps, the slowest check.
        progress: called with the name of the stage, the number of items done and the total.

        Returns:
        All findings. A pair that is exact, similar or an overlap is listed once, under the most serious kind, and
        not under landslide; neighbours are listed in addition.

    Raises:
        DataError: if the splits have different bands or patch sizes, or contain no patches.
    """
    started = time.perf_counter()
    ordered = {name: splits[name] for name in sorted(splits, key=_split_order)}
    _check_comparable(ordered)
    report = progress or (lambda stage, done, total: None)
    signatures = compute_signatures(ordered, lambda done, total: report("reading patches", done, total))
    texture = extract_texture(signatures.grey)
    equalised = equalise_texture(texture)
    # Leakage from training to test biases the results most, so that pair comes first.
    split_pairs = sorted(combinations(ordered, 2), key=lambda pair: pair != ("train", "test"))
    searched = signatures.splits if overlaps else {}
    landmarks = {name: find_landmarks(texture, places) for name, places in searched.items()}
    reach = max(dataset.reach for dataset in ordered.values())
    pairs: list[TouchingPair] = []
    scenes: list[SharedScene] = []
    touched: list[TouchedPatches] = []
    for names in split_pairs:
        found = _compare(names, signatures, equalised, landmarks, reach, report)
        shared = _shared_scenes(names, ordered, reach)
        pairs += found
        scenes += shared
        touched += _count_touched(names, found, shared, ordered[names[1]].patches)
    order = list(KINDS)
    pairs.sort(key=lambda pair: (order.index(pair.kind), split_pairs.index(pair.splits), _pair_sort_key(pair)))
    return Audit(
        sizes={name: len(dataset) for name, dataset in ordered.items()},
        pairs=tuple(pairs),
        scenes=tuple(scenes),
        touched=tuple(touched),
        notes=tuple(_notes(signatures, overlaps)),
        seconds=time.perf_counter() - started,
    )


def cached_summary(splits: Mapping[str, PatchDataset], fingerprints: Mapping[str, str]) -> AuditSummary:
    """Return the summary of an audit, from the cache if the same patches have been audited before.

    Args:
        splits: data sets by split name.
        fingerprints: fingerprint of each split.

    Raises:
        ZooError: as :func:`audit_splits`.
    """
    cached = _cache_path(fingerprints)
    with suppress(FileNotFoundError, ZooError):
        return read_json(cached, AuditSummary, what="cached audit")
    overlaps = sum(len(dataset) for dataset in splits.values()) <= OVERLAP_LIMIT
    summary = audit_splits(splits, overlaps=overlaps).summary()
    # If the cache cannot be written, the only cost is that the next run repeats the audit.
    with suppress(ZooError):
        write_json(cached, summary)
    return summary


def _cache_path(fingerprints: Mapping[str, str]) -> Path:
    content = json.dumps([CACHE_VERSION, dict(fingerprints)], sort_keys=True)
    return cache_folder("audits") / f"{hashlib.sha256(content.encode()).hexdigest()[:32]}.json"


def _compare(
    names: tuple[str, str],
    signatures: PatchSignatures,
    texture: NDArray[np.float32],
    landmarks: Mapping[str, Landmarks],
    reach: int,
    report: StageCallback,
) -> list[TouchingPair]:
    """Return the pairs of touching patches of two splits."""
    left, right = signatures.splits[names[0]], signatures.splits[names[1]]

    def patch_names(one: int, other: int) -> tuple[str, str]:
        return signatures.patches[one].name, signatures.patches[other].name

    pairs = []
    known: set[tuple[int, int]] = set()
    for one, other in _equal_images(signatures, left, right):
        known.add((one, other))
        shared = int((signatures.landslide(one) & signatures.landslide(other)).sum())
        pairs.append(TouchingPair("exact", names, patch_names(one, other), correlation=1.0, landslide_pixels=shared))
    matches = find_copies(signatures.grey, texture, left, right)
    if landmarks:
        left_landmarks, right_landmarks = landmarks[names[0]], landmarks[names[1]]
        for done, found in find_overlaps(signatures.grey, texture, left_landmarks, right_landmarks):
            report(f"comparing {names[0]} and {names[1]}", done, len(left_landmarks.owners))
            matches += found
    # The same pair may be found as a copy and as an overlap; the copy is kept.
    for match in matches:
        if (match.one, match.other) in known:
            continue
        known.add((match.one, match.other))
        pairs.append(
            TouchingPair(
                kind="overlap" if match.shift != (0, 0) else "similar",
                splits=names,
                patches=patch_names(match.one, match.other),
                correlation=round(match.correlation, 4),
                landslide_pixels=_common_landslide_pixels(signatures, match),
                detail=_describe_match(match, signatures.factor),
            )
        )
    for one, other, pixels in _equal_outlines(signatures, left, right):
        if (one, other) not in known:
            pairs.append(TouchingPair("landslide", names, patch_names(one, other), pixels=pixels))
    left_patches, right_patches = (signatures.patches[side.start : side.stop] for side in (left, right))
    for first, second in neighbour_pairs(left_patches, right_patches, guard=reach).tolist():
        distance = _grid_distance(left_patches[first], right_patches[second])
        pairs.append(TouchingPair("neighbour", names, patch_names(left[first], right[second]), distance=distance))
    return pairs


def _equal_images(signatures: PatchSignatures, left: range, right: range) -> Iterator[tuple[int, int]]:
    owners: dict[bytes, list[int]] = defaultdict(list)
    for index in left:
        if not signatures.blank[index]:
            owners[signatures.digests[index]].append(index)
    for index in right:
        for one in owners.get(signatures.digests[index], ()):
            yield one, index


def _equal_outlines(signatures: PatchSignatures, left: range, right: range) -> Iterator[tuple[int, int, int]]:
    """Yield pairs of patches that share a landslide outline, and the size of the largest such landslide."""
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


def _common_landslide_pixels(signatures: PatchSignatures, match: Match) -> int:
    first = signatures.landslide(match.one)
    second = list(orientations(signatures.landslide(match.other)))[match.orientation]
    down, across = (signatures.factor * step for step in match.shift)
    first_part, second_part = overlapping_parts(signatures.shape, down, across)
    return int((first[first_part] & second[second_part]).sum())


def _shared_scenes(names: tuple[str, str], splits: Mapping[str, PatchDataset], reach: int) -> list[SharedScene]:
    first, second = (_group_by_scene(splits[name].patches) for name in names)
    shared = []
    for scene in sorted(set(first) & set(second)):
        both = [*first[scene], *second[scene]]
        distance = None
        if all(patch.row is not None and patch.col is not None for patch in both):
            places = [np.array([(patch.row, patch.col) for patch in side]) for side in (first[scene], second[scene])]
            distance = int(np.min(cKDTree(places[0]).query(places[1], p=np.inf)[0]))
        shared.append(SharedScene(scene, names, (len(first[scene]), len(second[scene])), distance, reach))
    return shared


def _group_by_scene(patches: Sequence[Patch]) -> dict[str, list[Patch]]:
    scenes: dict[str, list[Patch]] = defaultdict(list)
    for patch in patches:
        # A data set without known scenes names all of them "", which gives no information about the ground.
        if patch.group or patch.row is not None:
            scenes[patch.group].append(patch)
    return scenes


def _count_touched(
    names: tuple[str, str], pairs: Sequence[TouchingPair], scenes: Sequence[SharedScene], second: Sequence[Patch]
) -> Iterator[TouchedPatches]:
    touched: dict[str, set[str]] = defaultdict(set)
    for pair in pairs:
        touched[pair.kind].add(pair.patches[1])
    leaking = {scene.scene for scene in scenes if scene.leaks}
    if leaking:
        touched["scene"] = {patch.name for patch in second if patch.group in leaking}
    for kind in KINDS:
        if kind in touched:
            yield TouchedPatches(*names, kind, len(touched[kind]))
    yield TouchedPatches(*names, ANY_KIND, len(set().union(*touched.values())))


def _notes(signatures: PatchSignatures, overlaps: bool) -> Iterator[str]:
    unplaced = sum(patch.row is None or patch.col is None for patch in signatures.patches)
    if unplaced:
        subject = "no patch has" if unplaced == len(signatures.patches) else f"{unplaced} patches have no"
        yield f"{subject} a known location, so their neighbours were not searched for"
    if not any(patch.group for patch in signatures.patches):
        yield "scenes are unknown, so shared scenes were not searched for"
    if signatures.blank.any():
        count = int(signatures.blank.sum())
        yield f"{count} blank patches (a single value per band, or none) were compared by location only"
    if not overlaps:
        yield "shifted overlaps were not searched for (zoo audit does)"


def _describe_match(match: Match, factor: int) -> str:
    down, across = (step * factor for step in match.shift)
    parts = []
    if down:
        parts.append(f"{abs(down)} px {'below' if down > 0 else 'above'}")
    if across:
        parts.append(f"{abs(across)} px {'right' if across > 0 else 'left'}")
    return " and ".join(parts) or _ORIENTATION_WORDS[match.orientation]


def _pair_sort_key(pair: TouchingPair) -> float:
    """Return a sort key: for neighbours, nearest first; otherwise, largest value first."""
    return pair.value if pair.distance is not None else -pair.value


def _grid_distance(one: Patch, other: Patch) -> int:
    # Neighbours are found by location, so all four numbers are known.
    return max(abs((one.row or 0) - (other.row or 0)), abs((one.col or 0) - (other.col or 0)))


def _split_order(split: str) -> int:
    return SPLITS.index(split) if split in SPLITS else len(SPLITS)


def _check_comparable(splits: Mapping[str, PatchDataset]) -> None:
    if not any(len(dataset) for dataset in splits.values()):
        raise DataError("no split contains a patch, so there is nothing to audit")
    shapes = {(len(dataset.bands), *dataset.read(0)[1].shape) for dataset in splits.values() if len(dataset)}
    if len(shapes) > 1:
        raise DataError(f"the splits have patches of different bands or sizes: {sorted(shapes)}")
