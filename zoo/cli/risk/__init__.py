"""``zoo risk``: risk models on tables and rasters."""

from __future__ import annotations

from zoo.cli.lazy import LazyCommand, LazyGroup

COMMANDS = {
    "calibrate:calibrate": "Fit the weights of the risk index to a stack and an inventory.",
    "compare:compare": "Table 2: risk models on a table of places, random and spatial-block cross-validation.",
    "map:map_command": "Map the risk index or a fitted model over a stack.",
}

risk = LazyGroup(
    "risk",
    help="Landslide risk on tables and rasters: compare models, calibrate the index, map it.",
    short_help="Landslide risk: compare models on a table, calibrate the index, map it.",
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 110},
    no_args_is_help=True,
)
for _target, _summary in COMMANDS.items():
    risk.add_command(LazyCommand(_target.partition(":")[0], f"zoo.cli.risk.{_target}", _summary))
