"""Registration of ``mondini_rain`` for images, ``mondini`` for tables, and the command ``zoo rain-table``.

The targets are names, so that listing them imports neither torch nor scikit-learn.
"""

from __future__ import annotations

from zoo.registry import Flag, ModelSpec, RiskModelSpec, hookimpl
from zoo.registry.hookspecs import CommandGroup, RegisterModel, RegisterRiskModel

PAPER = "Mondini, Guzzetti and Melillo 2023, Nature Communications 14, 2466"
DOI = "10.1038/s41467-023-38135-y"
MONDINI_RAIN = ModelSpec(
    name="mondini_rain",
    target="zoo_mondini.model:MondiniRain",
    summary="NEEDS RAIN: hourly rainfall history x slope mask, no image network",
    paper=PAPER,
    doi=DOI,
    parameters=6_715,
    flags=frozenset({Flag.NEEDS_RAIN, Flag.BATCH1_TRAINING}),
)

MONDINI = RiskModelSpec(
    name="mondini",
    title="Rainfall history x slope mask [54]",
    target="zoo_mondini.estimator:MondiniClassifier",
    summary="needs columns P_t-1, P_t-2, ... with the rain of each hour before, and slope",
    plain=True,
    unsupported_reason="zoo_mondini.history:unsupported_reason",
    source="[P] section 3.5.3",
)


@hookimpl
def zoo_register_models(register: RegisterModel) -> None:
    """Register ``mondini_rain``."""
    register(MONDINI_RAIN)


@hookimpl
def zoo_register_risk_models(register: RegisterRiskModel) -> None:
    """Register ``mondini`` for ``zoo risk compare``."""
    register(MONDINI)


@hookimpl
def zoo_register_commands(app: CommandGroup) -> None:
    """Add ``zoo rain-table``."""
    from zoo_mondini.command import rain_table

    app.add_command(rain_table)
