"""The sixteen sub-datasets of the CAS Landslide Dataset, and finding them in a folder."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from zoo.datasets.download import absent
from zoo.errors import DataError, UnknownNameError

SOURCE = "https://doi.org/10.5281/zenodo.10294997"


@dataclass(frozen=True)
class Subset:
    """One archive of the data set.

    Attributes:
        name: what users type.
        folder: the archive's name without .zip; parentheses are full-width in some of them.
        region: of the nine; images of one region may show the same ground.
        platform: "uav" or "satellite".
        pixel_size: side of a pixel in metres.
        images: how many were published.
    """

    name: str
    folder: str
    region: str
    platform: str
    pixel_size: float
    images: int


# Platforms, pixel sizes and numbers of images: table 2 of the paper [S]; the numbers add up to its 20,865.
SUBSETS: tuple[Subset, ...] = (
    Subset("palu", "palu", "palu", "satellite", 5.0, 817),
    Subset("lombok", "Lombok", "lombok", "satellite", 5.0, 436),
    Subset("hokkaido", "Hokkaido Iburi-Tobu", "hokkaido", "satellite", 3.0, 1484),
    Subset("tiburon-sentinel", "Tiburon Peninsula (Sentinel)", "tiburon", "satellite", 5.0, 606),
    Subset("tiburon-planet", "Tiburon Peninsula (planet)", "tiburon", "satellite", 4.0, 325),
    Subset("mengdong", "Mengdong Township", "mengdong", "satellite", 0.5, 1155),
    Subset("moxitaidi-sat", "Moxitaidi (SAT)", "moxi", "satellite", 0.6, 652),
    Subset("moxitaidi-uav-0.6m", "Moxitaidi (UAV-0.6m)", "moxi", "uav", 0.6, 984),
    Subset("moxitaidi-uav-1m", "Moxitaidi (UAV-1m)", "moxi", "uav", 1.0, 483),
    Subset("moxi-town-uav-0.2m", "Moxi town (UAV-0.2m)", "moxi", "uav", 0.2, 1635),
    Subset("moxi-town-uav-1m", "Moxi town (UAV-1m)", "moxi", "uav", 1.0, 160),
    Subset("longxi-sat", "Longxi River (SAT)", "longxi", "satellite", 0.5, 1769),
    Subset("longxi-uav", "Longxi River (UAV)", "longxi", "uav", 0.5, 2504),
    Subset("jiuzhai-uav-0.2m", "Jiuzhai valley (UAV-0.2m)", "jiuzhai", "uav", 0.2, 5925),
    Subset("jiuzhai-uav-0.5m", "Jiuzhai valley (UAV-0.5m)", "jiuzhai", "uav", 0.5, 1752),
    Subset("wenchuan", "Wenchuan", "wenchuan", "satellite", 5.0, 178),
)
_BY_NAME = {subset.name: subset for subset in SUBSETS}


def named(folder: str) -> Subset | None:
    """Give the sub-dataset that a folder is called after, whatever its case and parentheses; None for another name."""
    words = _words(folder)
    fitting = [subset for subset in SUBSETS if _words(subset.name) <= words]
    return max(fitting, key=lambda subset: len(_words(subset.name)), default=None)


def find_subsets(root: Path, wanted: tuple[str, ...] | None, platform: str) -> dict[Subset, Path]:
    """Find the folders that hold img and mask.

    Args:
        root: folder of the data set, with one folder a sub-dataset, or one of these folders itself.
        wanted: names of sub-datasets; None for all that are there.
        platform: "uav", "satellite" or "all".

    Returns:
        Folder of each sub-dataset, in the order of :data:`SUBSETS`.

    Raises:
        UnknownNameError: for a name that is none of the sixteen.
        DataError: if none is there, or one that is wanted is not, saying where to get it and where to put it; if a
            folder is called after none, or two after one.
    """
    for name in wanted or ():
        if name not in _BY_NAME:
            raise UnknownNameError("sub-dataset", name, _BY_NAME, where="option subsets")
    found: dict[Subset, Path] = {}
    for folder in _pairs(root, 3) if root.is_dir() else ():
        subset = _subset_of(folder, root)
        if subset in found:
            raise DataError(
                f"two folders are sub-dataset {subset.name!r}",
                where=folder,
                hint=f"The other is {found[subset]}; take one out",
            )
        found[subset] = folder
    missing = [_BY_NAME[name] for name in wanted or () if _BY_NAME[name] not in found]
    if missing or not found:
        first = missing[0] if missing else SUBSETS[0]
        raise absent(
            "cas",
            root,
            expected=f"{first.folder}/img and {first.folder}/mask",
            source=f"{SOURCE} (16 archives, non-commercial licence CC BY-NC 4.0: read it, zoo does not fetch them)",
            how=f"unpack each archive into a folder of its name: unzip '{first.folder}.zip' -d '{first.folder}'",
        )
    chosen = {
        subset: found[subset]
        for subset in SUBSETS
        if subset in found and (wanted is None or subset.name in wanted) and platform in ("all", subset.platform)
    }
    if not chosen:
        raise DataError(
            f"none of the sub-datasets is by {platform}", where=root, hint="Choose another platform or other subsets"
        )
    return chosen


def pair_images(folder: Path) -> list[tuple[str, Path, Path]]:
    """Give name, image and mask of each patch of a sub-dataset, in the order of names.

    Raises:
        DataError: if there are no images, or one has no mask.
    """
    images = {path.stem: path for path in _tiffs(_inside(folder, "img"))}
    masks = {_plain(path.stem): path for path in _tiffs(_inside(folder, "mask"))}
    if not images:
        raise DataError("holds no TIFF", where=folder / "img", hint="Unpack the archive again")
    without = [image for name, image in images.items() if _plain(name) not in masks]
    if without:
        raise DataError(
            f"has no mask of its name ({len(without)} of {len(images)} images have none)",
            where=without[0],
            hint=f"Unpack the archive again; masks lie in {folder / 'mask'}",
        )
    return [(name, images[name], masks[_plain(name)]) for name in sorted(images)]


def _words(text: str) -> frozenset[str]:
    plain = text.casefold().replace("satellite", "sat").replace("_", " ")
    return frozenset(re.findall(r"[a-z]+|\d+(?:\.\d+)?", plain))


def _plain(stem: str) -> str:
    return re.sub(r"[-_ ]?mask$", "", stem.casefold())


def _pairs(folder: Path, depth: int) -> Iterator[Path]:
    below = sorted(path for path in folder.iterdir() if path.is_dir() and not path.name.startswith("."))
    if {"img", "mask"} <= {path.name.casefold() for path in below}:
        yield folder
    elif depth:
        for path in below:
            yield from _pairs(path, depth - 1)


def _subset_of(folder: Path, root: Path) -> Subset:
    inside = folder.relative_to(root).parts
    for name in reversed(inside or (root.resolve().name,)):
        if (subset := named(name)) is not None:
            return subset
    raise DataError(
        "holds img and mask, and is called after none of the sixteen sub-datasets",
        where=folder,
        hint="Give it the name of its archive, such as " + ", ".join(repr(subset.folder) for subset in SUBSETS[:3]),
    )


def _inside(folder: Path, name: str) -> Path:
    return next(path for path in folder.iterdir() if path.name.casefold() == name)


def _tiffs(folder: Path) -> list[Path]:
    return sorted(path for path in folder.iterdir() if path.suffix.casefold() in (".tif", ".tiff"))
