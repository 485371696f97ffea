"""``zoo risk``: risk models on tables and rasters, and the option parsers that its commands share."""

from __future__ import annotations

from pathlib import Path

from zoo.cli.lazy import LazyCommand, LazyGroup
from zoo.errors import ConfigError

COMMANDS = {
    "calibrate:calibrate": "Fit the weights of the risk index to a stack and an inventory.",
    "compare:compare": "Table 2: risk models on a table of places, with random and spatial-block cross-validation.",
    "map:map_command": "Map the risk index or a fitted model over a stack.",
}

risk = LazyGroup(
    "risk",
    help="Landslide risk on tables and rasters: compare models, calibrate the index, map it.",
    short_help="Compare risk models, calibrate the risk index, map it.",
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 110},
    no_args_is_help=True,
)
for _target, _summary in COMMANDS.items():
    risk.add_command(LazyCommand(_target.partition(":")[0], f"zoo.cli.risk.{_target}", _summary))


def names(text: str | None) -> list[str]:
    """Split names at commas."""
    return [part.strip() for part in (text or "").split(",") if part.strip()]


def name_pair(text: str | None, option: str) -> tuple[str, str] | None:
    """Parse two names separated by a comma.

    Raises:
        ConfigError: if there are not two.
    """
    if text is None:
        return None
    found = names(text)
    if len(found) != 2:
        raise ConfigError(f"{text!r} is not two columns", where=f"option {option}", hint="Write them as A,B")
    return found[0], found[1]


def numbers(text: str, option: str, example: str, count: int | None = None) -> list[float]:
    """Parse numbers separated by commas.

    Args:
        text: value of the option.
        option: its name, for messages.
        example: an example of a right value.
        count: how many numbers are needed; None for any.

    Raises:
        ConfigError: if the text is not ``count`` numbers.
    """
    try:
        found = [float(part) for part in text.split(",")]
    except ValueError:
        found = []
    if not found or (count is not None and len(found) != count):
        what = "numbers" if count is None else f"{count} numbers"
        raise ConfigError(f"{text!r} is not {what}", where=f"option {option}", hint=f"For example {example}")
    return found


def parse_breaks(text: str | None, methods: tuple[str, ...]) -> str | tuple[float, float] | None:
    """Parse ``--classes``: the name of a method, or two class breaks."""
    if text is None or text in methods:
        return text
    low, high = numbers(text, "--classes", f"{', '.join(methods)} or 0.5,0.6", 2)
    return low, high


def parse_rain(text: str | None) -> tuple[float, float] | Path | None:
    """Parse ``--rain``: ``P,D`` as two numbers, or the name of a raster.

    Raises:
        ConfigError: if it is neither, or a number is negative or not finite.
    """
    if text is None:
        return None
    try:
        found = [float(part) for part in text.split(",")]
    except ValueError:
        if Path(text).suffix or Path(text).is_file():
            return Path(text)
        found = []
    if len(found) != 2:
        raise ConfigError(
            f"{text!r} is neither two numbers nor a raster",
            where="--rain",
            hint="Write 12,2 (mm/h, days), or name a GeoTIFF",
        )
    for what, value, unit in zip(("intensity", "duration"), found, ("mm/h", "days"), strict=True):
        if not 0 <= value < float("inf"):
            raise ConfigError(f"rain {what} of {value:g} {unit}", where="--rain", hint="Give 0 or more, and finite")
    return found[0], found[1]
