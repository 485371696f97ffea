"""Finding the images and masks of a folder, and which mask belongs to which image."""

from __future__ import annotations

import os
import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from zoo.datasets.folder.decoding import SUFFIXES
from zoo.errors import DataError, suggestion

FOLDER_NAMES: tuple[tuple[str, tuple[str, ...]], ...] = (
    ("images", ("masks", "mask", "labels", "label", "annotations", "gt")),
    ("image", ("mask", "masks", "label", "labels", "annotation", "annotations", "gt")),
    ("img", ("mask", "masks", "label", "labels", "annotation", "annotations", "gt")),
    ("imgs", ("masks", "mask", "labels", "annotations")),
)
"""Names of image folders and of the mask folders that go with them, the most usual first."""

_ROLE_WORDS = frozenset(
    {"image", "images", "img", "imgs", "mask", "masks", "msk", "label", "labels", "lbl", "annotation", "gt"}
)
_SEPARATORS = re.compile(r"[_\-. ]+")


@dataclass(frozen=True)
class Pair:
    """One image file and its mask file.

    Attributes:
        name: path of the image below its folder, without suffix, with "/" between folders.
        image: the image file.
        mask: the mask file.
    """

    name: str
    image: Path
    mask: Path


def find_folders(root: Path, images: str | None, masks: str | None) -> tuple[Path, Path]:
    """Find the folder of images and the folder of masks below ``root``.

    Args:
        root: the folder that the user named.
        images: name of the folder of images, None to find it.
        masks: name of the folder of masks, None to find it.

    Raises:
        DataError: if ``root`` or a named folder is missing, or none or several pairs of folders are found.
    """
    if not root.exists():
        raise DataError("no such folder", where=root, hint=_nearest(root))
    if not root.is_dir():
        raise DataError("is a file, and a data set is a folder", where=root)
    below = _folders(root)
    if not any(True for _ in root.iterdir()):
        raise DataError("the folder is empty", where=root, hint="It should hold images/ and masks/")
    found_images = None if images is None else _named(root, images, "images", below)
    found_masks = None if masks is None else _named(root, masks, "masks", below)
    if found_images is not None and found_masks is not None:
        return found_images, found_masks
    lower = {name.lower(): name for name in below}
    candidates = [
        (root / lower[image], root / lower[mask])
        for image, partners in FOLDER_NAMES
        for mask in partners
        if image in lower and mask in lower
    ]
    if found_images is not None:
        partners = {mask for _, names in FOLDER_NAMES for mask in names} & set(lower)
        candidates = [(found_images, root / lower[mask]) for mask in sorted(partners)]
    if found_masks is not None:
        owners = {image for image, _ in FOLDER_NAMES} & set(lower)
        candidates = [(root / lower[image], found_masks) for image in sorted(owners)]
    if len(candidates) == 1:
        return candidates[0]
    if candidates:
        shown = "; ".join(f"{image.name} + {mask.name}" for image, mask in candidates)
        raise DataError(
            f"several folders could be the images and masks: {shown}",
            where=root,
            hint="Name them with the options images and masks",
        )
    raise DataError("holds no folder of images with a folder of masks", where=root, hint=_what_is_there(root, below))


def list_files(folder: Path, role: str) -> list[Path]:
    """List the readable files below a folder, sorted by path, hidden files left out.

    Raises:
        DataError: if there are none.
    """
    files: list[Path] = []
    others: Counter[str] = Counter()
    for parent, folders, names in os.walk(folder, onerror=_refused):
        folders[:] = sorted(name for name in folders if not name.startswith("."))
        for name in names:
            if name.startswith("."):
                continue
            path = Path(parent) / name
            if path.suffix.lower() in SUFFIXES:
                files.append(path)
            else:
                others[path.suffix.lower()] += 1
    if not files:
        seen = ", ".join(f"{count} {suffix or 'without suffix'}" for suffix, count in others.most_common(4))
        raise DataError(
            f"holds no {role}s" + (f" (only {seen})" if seen else ""),
            where=folder,
            hint="Images and masks are PNG, JPEG, TIFF, NPY or HDF5 files",
        )
    return sorted(files, key=lambda path: path.relative_to(folder).as_posix())


def pair_files(images: Path, masks: Path) -> list[Pair]:
    """Pair every image with its mask by name, sorted by name.

    Equal names pair first ("a/12.tif" with "a/12.png"). What is left pairs by the name without the words that say
    the role ("image_12" with "mask_12", "S1-7.img" with "S1-7_label").

    Raises:
        DataError: if an image has no mask, a mask no image, or two files claim one name.
    """
    image_files = _by_name(images, list_files(images, "image"))
    mask_files = _by_name(masks, list_files(masks, "mask"))
    pairs = {name: mask_files[name] for name in image_files if name in mask_files}
    left_masks = _by_key(masks, [name for name in mask_files if name not in pairs])
    left_images = _by_key(images, [name for name in image_files if name not in pairs])
    for key, name in left_images.items():
        if key in left_masks:
            pairs[name] = mask_files[left_masks.pop(key)]
    alone = [name for name in image_files if name not in pairs]
    if alone:
        raise DataError(
            _count(alone, image_files, "image", "has no mask", "have no mask"),
            where=images,
            hint=f"A mask has the name of its image: {alone[0]} or mask_{alone[0].rsplit('/')[-1]} in {masks.name}/",
        )
    if left_masks:
        orphans = sorted(left_masks.values())
        raise DataError(
            _count(orphans, mask_files, "mask", "has no image", "have no image"),
            where=masks,
            hint="Remove the masks that are not needed, or copy the images again",
        )
    return [Pair(name, image_files[name], pairs[name]) for name in sorted(pairs)]


def key_of(name: str) -> str:
    """Give the name without the words that say whether it is an image or a mask.

    >>> key_of("a/image_12"), key_of("a/Mask-12"), key_of("S1.7.label")
    ('a/12', 'a/12', 's1_7')
    """
    folder, _, stem = name.rpartition("/")
    words = [word for word in _SEPARATORS.split(stem.lower()) if word and word not in _ROLE_WORDS]
    return f"{folder}/{'_'.join(words)}" if folder else "_".join(words)


def _by_name(folder: Path, files: Sequence[Path]) -> dict[str, Path]:
    named: dict[str, Path] = {}
    for path in files:
        name = path.relative_to(folder).with_suffix("").as_posix()
        if name in named:
            raise DataError(f"has the same name as {named[name].name}", where=path, hint="Keep one of them")
        named[name] = path
    return named


def _by_key(folder: Path, names: Sequence[str]) -> dict[str, str]:
    keyed: dict[str, str] = {}
    for name in names:
        key = key_of(name)
        if key in keyed:
            raise DataError(
                f"{keyed[key]} and {name} both reduce to {key!r}, so their partners cannot be told apart",
                where=folder,
                hint="Give each image and its mask one name",
            )
        keyed[key] = name
    return keyed


def _count(names: Sequence[str], everything: dict[str, Path], noun: str, one: str, many: str) -> str:
    shown = ", ".join(names[:3]) + (", ..." if len(names) > 3 else "")
    return f"{len(names)} of {len(everything)} {noun}s {one if len(names) == 1 else many}: {shown}"


def _folders(root: Path) -> list[str]:
    try:
        return sorted(entry.name for entry in root.iterdir() if entry.is_dir() and not entry.name.startswith("."))
    except PermissionError as error:
        raise DataError("may not be listed (permission denied)", where=root) from error


def _named(root: Path, name: str, role: str, below: Sequence[str]) -> Path:
    folder = root / name
    if not folder.is_dir():
        raise DataError(f"no folder of {role} {name!r}", where=root, hint=suggestion(name, below))
    return folder


def _nearest(root: Path) -> str | None:
    if not root.parent.is_dir():
        return None
    return suggestion(root.name, _folders(root.parent))


def _what_is_there(root: Path, below: Sequence[str]) -> str:
    lower_pairs = [(image, set(partners)) for image, partners in FOLDER_NAMES]
    for name in below:
        inside = {inner.lower() for inner in _folders(root / name)}
        if any(image in inside and inside & partners for image, partners in lower_pairs):
            return f"Did you mean {root / name}?"
    there = ", ".join(below[:6]) if below else "only files"
    return f"It holds {there}; name the folders with the options images and masks"


def _refused(error: OSError) -> None:
    raise DataError("may not be listed", where=error.filename, hint=error.strerror) from error
