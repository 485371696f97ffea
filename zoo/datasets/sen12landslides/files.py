"""Where the patches and the official splits of Sen12Landslides lie, in each of the layouts that were published."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from zoo.datasets.base import SPLITS
from zoo.datasets.download import absent
from zoo.errors import DataError

NAME = re.compile(r"(?P<region>.+)_(?P<sensor>s2|s1asc|s1dsc)_(?P<id>[^_]+)")
SOURCE = "https://huggingface.co/datasets/paulhoehn/Sen12Landslides"
EDITIONS: tuple[str, ...] = ("harmonized", "raw")


def find_patches(root: Path, sensor: str, edition: str | None) -> tuple[str | None, dict[str, Path]]:
    """Find the patch files of one sensor.

    Args:
        root: folder of the data set.
        sensor: "s2", "s1asc" or "s1dsc".
        edition: "harmonized" or "raw"; None for what is there, harmonized first.

    Returns:
        The edition, None where the folders do not tell, and the files by name, in the order of names.

    Raises:
        DataError: if there are none, saying where to get them and where to put them; if two files have one name.
    """
    for wanted in EDITIONS if edition is None else (edition,):
        for place in (f"data_{wanted}/{sensor}", f"data/{wanted}/{sensor}", f"{wanted}/{sensor}"):
            if found := _patches(root / place, sensor):
                return wanted, found
    if edition is None:
        for place in (f"data/{sensor}", f"data/final/{sensor}", sensor, "."):
            if found := _patches(root / place, sensor):
                return None, found
    shown = edition or EDITIONS[0]
    packed = next(iter(sorted(root.rglob("*.tar.gz"))), None) if root.is_dir() else None
    unpack = f"unpack its archives there (tar -xzf FILE -C data_{shown}/{sensor})"
    raise absent(
        "sen12landslides",
        root,
        expected=f"data_{shown}/{sensor}/REGION_{sensor}_ID.nc",
        source=f"{SOURCE} (folder data_{shown}/{sensor})",
        how=unpack if packed is not None else f"{unpack}, or add --data-option download=true",
    )


def region_of(name: str) -> str:
    """Give the region in the name of a patch: "usa_puertorico_s2_698" is in usa_puertorico.

    kyrgyzstan1 and kyrgyzstan2 are two inventories of neighbouring ground, and both are "kyrgyzstan" [O].
    """
    found = NAME.fullmatch(name)
    region = name if found is None else found["region"]
    return region.rstrip("0123456789") or region


def find_official(root: Path, task: str, edition: str | None, sensor: str) -> Path | None:
    """Find the file of the official split, below the folder of the data set or beside it; None without one."""
    shown = edition or ""
    folders = [
        f"tasks/{task}/{shown}",
        f"tasks/{shown}/{task}",
        f"tasks/{task}-{shown.capitalize()}",
        f"tasks/{task}",
        task,
    ]
    for base in (root, root.parent):
        for folder in folders:
            for name in ("splits.json", "data_paths.json"):
                if (path := base / folder / sensor / name).is_file():
                    return path
    return None


def read_official(path: Path, sensor: str, patches: Mapping[str, Path]) -> dict[str, list[str]]:
    """Read an official split.

    Args:
        path: ``splits.json`` (objects with the file under the sensor's name) or ``data_paths.json`` (paths).
        sensor: whose files are meant.
        patches: the files that are there, by name.

    Returns:
        Names of patches by split, each list sorted.

    Raises:
        DataError: if the file is damaged or of another form, names a patch twice, or one that is not there.
    """
    again = f"Get it again from {SOURCE}, or split by region with split_by=group"
    try:
        read = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise DataError("the official split cannot be read", where=path, hint=again) from error
    if not isinstance(read, dict) or any(not isinstance(read.get(split), list) for split in SPLITS):
        raise DataError("the official split has no lists train, val and test", where=path, hint=again)
    splits = {split: [_name(item, sensor, path) for item in read[split]] for split in SPLITS}
    homes: dict[str, str] = {}
    for split, names in splits.items():
        for name in names:
            if name in homes:
                raise DataError(f"{name} is in {homes[name]} and in {split}", where=path, hint=again)
            homes[name] = split
    missing = sorted(set(homes) - set(patches))
    if missing:
        raise DataError(
            f"{len(missing)} of the {len(homes)} patches of the official split are not here, {missing[0]}.nc for one",
            where=path,
            hint="Unpack the other archives too (download=true does), or split by region with split_by=group",
        )
    return {split: sorted(names) for split, names in splits.items()}


def _patches(folder: Path, sensor: str) -> dict[str, Path]:
    found: dict[str, Path] = {}
    if not folder.is_dir():
        return found
    for path in sorted(folder.rglob("*.nc")):
        named = NAME.fullmatch(path.stem)
        if named is None or named["sensor"] != sensor:
            continue
        if path.stem in found:
            raise DataError(
                f"two files are called {path.name}",
                where=path,
                hint=f"The other is {found[path.stem]}; keep one edition, or name it with edition=harmonized or raw",
            )
        found[path.stem] = path
    return dict(sorted(found.items()))


def _name(item: Any, sensor: str, path: Path) -> str:
    text = item.get(sensor) if isinstance(item, dict) else item
    if not isinstance(text, str) or not text.endswith(".nc"):
        raise DataError(
            f"an entry of the official split names no file of {sensor}: {str(item)[:80]}",
            where=path,
            hint=f"Get it again from {SOURCE}, or split by region with split_by=group",
        )
    return Path(text.replace("\\", "/")).stem
