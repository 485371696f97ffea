"""What a stack says of itself before it is cut: scene, date, phase, and that all stacks of a folder agree."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from zoo.errors import ConfigError, DataError
from zoo.files import file_name
from zoo.physics.bands import Band
from zoo.rasters.dates import parse_day
from zoo.rasters.inventory import PHASES, name_of
from zoo.rasters.stacks import TAG_DATE, TAG_PHASE, TAG_SCENE, Stack


@dataclass(frozen=True)
class Scene:
    """One stack that is to be cut.

    Attributes:
        path: its file.
        name: name of the scene, unique among those of one folder.
        slug: the same in characters that any file system takes, unique too.
        date: ISO date of the image, "" when unknown.
        phase: "pre" or "post".
        bands: of the stack.
        crs: short name of its coordinate reference system.
        pixel_size: metres, None for degrees.
        shape: (rows, columns).
        notes: what is doubtful, in words.
    """

    path: Path
    name: str
    slug: str
    date: str
    phase: str
    bands: tuple[Band, ...]
    crs: str
    pixel_size: float | None
    shape: tuple[int, int]
    notes: tuple[str, ...]


def look_at_scenes(
    paths: Sequence[Path], *, scene: str | None = None, date: str | None = None, phase: str | None = None
) -> list[Scene]:
    """Open every stack once and settle what is known about it.

    Args:
        paths: the stacks.
        scene: name of the only scene; None for the stack's tag, else the name of its file.
        date: ISO date of the images; None for the stacks' tags, else unknown.
        phase: "pre" or "post"; None for the stacks' tags.

    Raises:
        ConfigError: if the phase is unknown or not the same of all, an option contradicts a tag, or two scenes share a
            name.
        DataError: if a stack cannot be read, or stacks differ in bands, units or pixel size.
    """
    if scene is not None and len(paths) > 1:
        raise ConfigError(f"one scene's name for {len(paths)} stacks", where="option scene")
    if scene is not None and not scene.strip():
        raise ConfigError("an empty name", where="option scene")
    if phase is not None and phase not in PHASES:
        raise ConfigError(f"{phase!r} is no phase", where="option phase", hint="Write pre or post")
    if date is not None:
        date = parse_day(date, "option date").isoformat()
    scenes: list[Scene] = []
    for path in paths:
        with Stack(path) as stack:
            found = _look(stack, scene, date, phase)
        for other in scenes:
            if found.slug.casefold() == other.slug.casefold():
                raise ConfigError(
                    f"{other.path} and {path} are both scene {found.name!r}",
                    hint="Cut them into two folders, or give each its SCENE tag",
                )
        if scenes:
            _agree(scenes[0], found)
        scenes.append(found)
    return scenes


def _look(stack: Stack, scene: str | None, date: str | None, phase: str | None) -> Scene:
    name = scene or stack.tags.get(TAG_SCENE, "").strip() or stack.path.stem
    notes = []
    written = stack.tags.get(TAG_DATE, "").strip()
    day = _settled(
        stack, TAG_DATE, parse_day(written, f"{stack.path}, tag {TAG_DATE}").isoformat() if written else "", date
    )
    if not day:
        notes.append("the date of the image is unknown: --date")
    side = _settled(stack, TAG_PHASE, stack.tags.get(TAG_PHASE, "").strip(), phase)
    if side not in PHASES:
        raise ConfigError(
            f"is of an unknown phase{f' ({side})' if side else ''}, and a mask means another thing in each",
            where=stack.path,
            hint="--phase post: the image shows these landslides; --phase pre: it was taken before they happened",
        )
    return Scene(
        path=stack.path,
        name=name,
        slug=file_name(name),
        date=day,
        phase=side,
        bands=stack.bands,
        crs=name_of(stack.crs),
        pixel_size=stack.pixel_size,
        shape=stack.shape,
        notes=tuple(notes),
    )


def _settled(stack: Stack, tag: str, written: str, given: str | None) -> str:
    if given is not None and written and written != given:
        raise ConfigError(
            f"its tag {tag} says {written}, the option says {given}",
            where=stack.path,
            hint=f"Leave the option out, or correct the tag: gdal_edit.py -mo {tag}={given} FILE",
        )
    return given or written


def _agree(first: Scene, other: Scene) -> None:
    if first.phase != other.phase:
        raise ConfigError(
            f"is of phase {other.phase}, {first.path} of phase {first.phase}, and a mask means another thing in each",
            where=other.path,
            hint="Cut them into two folders",
        )
    for what, ours, theirs in (
        ("bands", [band.name for band in first.bands], [band.name for band in other.bands]),
        ("units", [band.unit for band in first.bands], [band.unit for band in other.bands]),
    ):
        if ours != theirs:
            raise DataError(
                f"its {what} are {', '.join(theirs)}, those of {first.path} {', '.join(ours)}",
                where=other.path,
                hint="The patches of one folder have the same bands in the same order",
            )
    sizes = first.pixel_size, other.pixel_size
    if sizes[0] is None or sizes[1] is None:
        same = sizes[0] is sizes[1]
    else:
        same = math.isclose(sizes[0], sizes[1], rel_tol=0.01)
    if not same:
        raise DataError(
            f"its pixels are {_metres(sizes[1])}, those of {first.path} {_metres(sizes[0])}",
            where=other.path,
            hint="Warp one to the other's resolution first: gdalwarp -tr",
        )


def _metres(size: float | None) -> str:
    return "not in metres" if size is None else f"{size:g} m"
