"""Find the images and masks of a folder, and match each mask to its image."""

from __future__ import annotations

import os
import re
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from zoo.datasets.folder.decoding import SUFFIXES
from zoo.errors import ConfigError, DataError, suggestion
from zoo.files import is_folder

FOLDER_NAMES: tuple[tuple[str, tuple[str, ...]], ...] = (
    ("images", ("masks", "mask", "labels", "label", "annotations", "gt")),
    ("image", ("mask", "masks", "label", "labels", "annotation", "annotations", "gt")),
    ("img", ("mask", "masks", "label", "labels", "annotation", "annotations", "gt")),
    ("imgs", ("masks", "mask", "labels", "annotations")),
)
"""Names of image folders, most common first, each with the mask folder names that match it."""

_ROLE_WORDS = frozenset(
    {"image", "images", "img", "imgs", "mask", "masks", "msk", "label", "labels", "lbl", "annotation", "gt"}
)
_SEPARATORS = re.compile(r"[_\-. ]+")


@dataclass(frozen=True)
class Pair:
    """Image file and its mask file.

    Attributes:
        name: path of the image relative to its folder, without suffix, with "/" between folders.
        image: the image file.
        mask: the mask file.
    """

    name: str
    image: Path
    mask: Path


def find_folders(root: Path, images: str | None, masks: str | None) -> tuple[Path, Path]:
    """Return the folder of images and the folder of masks below ``root``.

    Args:
        root: the folder that the user named.
        images: name of the folder of images; None to detect it.
        masks: name of the folder of masks; None to detect it.

    Raises:
        DataError: if ``root`` or a named folder is missing, or no pair of folders or several are found.
    """
    if not os.path.lexists(root):
        raise DataError("no such folder", where=root, hint=_suggest_neighbour(root))
    if not is_folder(root):
        raise DataError("is a file, but a data set is a folder", where=root)
    below = _subfolders(root)
    if not any(True for _ in root.iterdir()):
        raise DataError("the folder is empty", where=root, hint="It should contain images/ and masks/")
    found_images = None if images is None else _named_folder(root, images, "images", below)
    found_masks = None if masks is None else _named_folder(root, masks, "masks", below)
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
    raise DataError(
        "contains no folder of images with a folder of masks", where=root, hint=_describe_folder(root, below)
    )


def find_image_folder(root: Path, images: str | None) -> Path:
    """Return the folder of images below ``root``, or ``root`` itself if it contains the images.

    Args:
        root: the folder that the user named.
        images: name of the folder of images; None to detect it.

    Raises:
        DataError: if ``root`` or the named folder is missing.
    """
    if not is_folder(root):
        raise DataError("no such folder", where=root, hint=_suggest_neighbour(root))
    below = _subfolders(root)
    if images is not None:
        return _named_folder(root, images, "images", below)
    lower = {name.lower(): name for name in below}
    return next((root / lower[name] for name, _ in FOLDER_NAMES if name in lower), root)


def list_files(folder: Path, role: str) -> list[Path]:
    """Return the readable files below a folder, sorted by path, without hidden files.

    Args:
        folder: the folder.
        role: "image" or "mask", for messages.

    Raises:
        DataError: if there are none.
    """
    files: list[Path] = []
    others: Counter[str] = Counter()
    for parent, folders, names in os.walk(folder, onerror=_refuse_unlistable):
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
            f"contains no {role}s" + (f" (only {seen})" if seen else ""),
            where=folder,
            hint="Images and masks are PNG, JPEG, TIFF, NPY or HDF5 files",
        )
    return sorted(files, key=lambda path: path.relative_to(folder).as_posix())


def pair_files(images: Path, masks: Path, pattern: str | None = None) -> list[Pair]:
    """Pair every image with its mask by name, sorted by name.

    Equal names are paired first ("a/12.tif" with "a/12.png"). The others are paired by the name without the words for
    the role ("image_12" with "mask_12", "S1-7.img" with "S1-7_label"). With a pattern, an image and a mask are paired
    if the groups of the pattern match the same text in both names.

    Args:
        images: folder of images.
        masks: folder of masks.
        pattern: regular expression with a group, searched for in the names of images and masks without suffix, such as
            ``T_(\\d+)`` for "ImageT_1" and "MaskT_1".

    Raises:
        ConfigError: if the pattern is not a regular expression with a group.
        DataError: if an image has no mask, a mask has no image, or a name is ambiguous.
    """
    image_files = _files_by_name(images, list_files(images, "image"))
    mask_files = _files_by_name(masks, list_files(masks, "mask"))
    key = key_of if pattern is None else _pattern_key(pattern)
    pairs = {name: mask_files[name] for name in image_files if name in mask_files} if pattern is None else {}
    left_masks = _names_by_key(masks, [name for name in mask_files if name not in pairs], key)
    left_images = _names_by_key(images, [name for name in image_files if name not in pairs], key)
    for text, name in left_images.items():
        if text in left_masks:
            pairs[name] = mask_files[left_masks.pop(text)]
    unpaired = [name for name in image_files if name not in pairs]
    how = "set with pair_pattern which part of the name they share"
    if unpaired:
        example = unpaired[0].rsplit("/", 1)[-1]
        raise DataError(
            _count(unpaired, image_files, "image", "has no mask", "have no mask"),
            where=images,
            hint=f"A mask has the name of its image ({unpaired[0]} or mask_{example} in {masks.name}/), or {how}",
        )
    if left_masks:
        raise DataError(
            _count(sorted(left_masks.values()), mask_files, "mask", "has no image", "have no image"),
            where=masks,
            hint=f"Remove the masks that are not needed, copy the images again, or {how}",
        )
    return [Pair(name, image_files[name], pairs[name]) for name in sorted(pairs)]


def key_of(name: str) -> str:
    """Return the name without the words that mark it as an image or a mask.

    >>> key_of("a/image_12"), key_of("a/Mask-12"), key_of("S1.7.label")
    ('a/12', 'a/12', 's1_7')
    """
    folder, _, stem = name.rpartition("/")
    words = [word for word in _SEPARATORS.split(stem.lower()) if word and word not in _ROLE_WORDS]
    return f"{folder}/{'_'.join(words)}" if folder else "_".join(words)


def compile_pattern(pattern: str, option: str, example: str) -> re.Pattern[str]:
    """Compile a regular expression that has at least one group.

    Args:
        pattern: the expression.
        option: option that contains it, for messages.
        example: a valid pattern, for messages.

    Raises:
        ConfigError: if it is not a regular expression or has no group.
    """
    try:
        compiled = re.compile(pattern)
    except (re.error, RecursionError, OverflowError) as error:
        raise ConfigError(f"{pattern!r} is not a regular expression ({error})", where=f"option {option}") from error
    if compiled.groups == 0:
        raise ConfigError(
            f"{pattern!r} has no group in parentheses", where=f"option {option}", hint=f"Write for example {example}"
        )
    return compiled


def _pattern_key(pattern: str) -> Callable[[str], str]:
    compiled = compile_pattern(pattern, "pair_pattern", r"'T_(\d+)' for ImageT_1 and MaskT_1")

    def key(name: str) -> str:
        match = compiled.search(name)
        if match is None:
            raise DataError(f"the pattern {pattern!r} does not match {name!r}", where="option pair_pattern")
        return "\0".join(group or "" for group in match.groups())

    return key


def _files_by_name(folder: Path, files: Sequence[Path]) -> dict[str, Path]:
    named: dict[str, Path] = {}
    for path in files:
        name = path.relative_to(folder).with_suffix("").as_posix()
        if name in named:
            raise DataError(f"has the same name as {named[name].name}", where=path, hint="Keep one of them")
        named[name] = path
    return named


def _names_by_key(folder: Path, names: Sequence[str], key: Callable[[str], str]) -> dict[str, str]:
    keyed: dict[str, str] = {}
    for name in names:
        text = key(name)
        if text in keyed:
            shown = text.replace("\0", ", ")
            raise DataError(
                f"{keyed[text]} and {name} both reduce to {shown!r}, so they would have the same partner",
                where=folder,
                hint="Give each image and its mask the same name, or pair them with pair_pattern",
            )
        keyed[text] = name
    return keyed


def _count(names: Sequence[str], everything: dict[str, Path], noun: str, one: str, many: str) -> str:
    shown = ", ".join(names[:3]) + (", ..." if len(names) > 3 else "")
    return f"{len(names)} of {len(everything)} {noun}s {one if len(names) == 1 else many}: {shown}"


def _subfolders(root: Path) -> list[str]:
    try:
        return sorted(entry.name for entry in root.iterdir() if entry.is_dir() and not entry.name.startswith("."))
    except PermissionError as error:
        raise DataError("may not be listed (permission denied)", where=root) from error


def _named_folder(root: Path, name: str, role: str, below: Sequence[str]) -> Path:
    folder = root / name
    if not is_folder(folder):
        raise DataError(f"no folder of {role} {name!r}", where=root, hint=suggestion(name, below))
    return folder


def _suggest_neighbour(root: Path) -> str | None:
    if not is_folder(root.parent):
        return None
    return suggestion(root.name, _subfolders(root.parent))


def _describe_folder(root: Path, below: Sequence[str]) -> str:
    lower_pairs = [(image, set(partners)) for image, partners in FOLDER_NAMES]
    for name in below:
        inside = {inner.lower() for inner in _subfolders(root / name)}
        if any(image in inside and inside & partners for image, partners in lower_pairs):
            return f"Did you mean {root / name}?"
    content = ", ".join(below[:6]) if below else "only files"
    return f"It contains {content}; name the folders with the options images and masks"


def _refuse_unlistable(error: OSError) -> None:
    raise DataError("may not be listed", where=error.filename, hint=error.strerror) from error
