"""``zoo risk``: risk models on tables and rasters, and the option parsers that its commands share."""

from __future__ import annotations

from pathlib import Path

from zoo.cli.lazy import LazyCommand, LazyGroup
from zoo.cli.values import parse_names, parse_numbers
from zoo.errors import ConfigError

COMMANDS = {
    "calibrate": "Fit the weights of the risk index to a stack and an inventory.",
    "compare": "Table 2: risk models on a table of places, with random and spatial-block cross-validation.",
    "events": "List the rain events of places with dated landslides.",
    "map": "Map the risk index or a fitted model over a stack.",
    "safety": "Map the probability that slopes fail under a rain when the soil is uncertain.",
    "thresholds": "Fit intensity-duration thresholds to a table of rain events.",
    "watch": "Map the index at each time step: alerts, catalogue, animation.",
}

_TARGETS = {"events": "thresholds:events", "map": "map:map_command", "safety": "map:safety"}
"""``module:function`` of each command for which it is not ``NAME:NAME``."""

risk = LazyGroup(
    "risk",
    help="Landslide risk on tables and rasters: compare models, calibrate the index, map it.",
    short_help="Compare risk models, calibrate the risk index, map it.",
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 110},
    no_args_is_help=True,
)
for _name, _summary in COMMANDS.items():
    risk.add_command(LazyCommand(_name, f"zoo.cli.risk.{_TARGETS.get(_name, f'{_name}:{_name}')}", _summary))


def name_pair(text: str | None, option: str) -> tuple[str, str] | None:
    """Parse two names separated by a comma.

    Raises:
        ConfigError: if there are not exactly two.
    """
    if text is None:
        return None
    found = parse_names(text) or []
    if len(found) != 2:
        raise ConfigError(f"{text!r} is not two columns", where=f"option {option}", hint="Write them as A,B")
    return found[0], found[1]


def parse_breaks(text: str | None, methods: tuple[str, ...]) -> str | tuple[float, float] | None:
    """Parse ``--classes``: the name of a method, or two class breaks."""
    if text is None or text in methods:
        return text
    low, high = parse_numbers(text, "--classes", f"{', '.join(methods)} or 0.5,0.6", count=2)
    return low, high


def parse_rain(text: str | None) -> tuple[float, float] | Path | None:
    """Parse ``--rain``: ``P,D`` as two numbers, or the name of a raster.

    Raises:
        ConfigError: if it is neither.
    """
    if text is None:
        return None
    if Path(text).is_file() or Path(text).suffix[1:2].isalpha():
        return Path(text)
    intensity, duration = parse_numbers(text, "--rain", "12,2 (mm/h, days), or the name of a GeoTIFF", count=2)
    return intensity, duration
