"""Landslide risk on tables and rasters: compare risk models (Table 2), calibrate the risk index, map it.

The names below are imported on first use; ``compare`` needs the extra ``risk`` (scikit-learn and XGBoost).

>>> import zoo
>>> report = zoo.risk.map("stack.tif", "risk.tif", rain=(12, 2))  # doctest: +SKIP
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from zoo.risk.calibration import Calibration, calibrate
    from zoo.risk.comparison import Comparison, compare
    from zoo.risk.event_tables import EventTable
    from zoo.risk.event_tables import list_events as events
    from zoo.risk.failure import SafetyReport
    from zoo.risk.failure import map_failure as safety
    from zoo.risk.index import RiskIndex
    from zoo.risk.mapping import MapReport
    from zoo.risk.mapping import map_risk as map
    from zoo.risk.models import create_risk_model, risk_models
    from zoo.risk.rain_thresholds import Thresholds
    from zoo.risk.rain_thresholds import fit_thresholds as thresholds
    from zoo.risk.tables import RiskTable, read_table
    from zoo.risk.watching import WatchReport, watch, watch_counties

_HOMES = {
    "Calibration": "calibration:Calibration",
    "Comparison": "comparison:Comparison",
    "EventTable": "event_tables:EventTable",
    "MapReport": "mapping:MapReport",
    "RiskIndex": "index:RiskIndex",
    "RiskTable": "tables:RiskTable",
    "SafetyReport": "failure:SafetyReport",
    "Thresholds": "rain_thresholds:Thresholds",
    "WatchReport": "watching:WatchReport",
    "calibrate": "calibration:calibrate",
    "compare": "comparison:compare",
    "create_risk_model": "models:create_risk_model",
    "events": "event_tables:list_events",
    "map": "mapping:map_risk",
    "read_table": "tables:read_table",
    "risk_models": "models:risk_models",
    "safety": "failure:map_failure",
    "thresholds": "rain_thresholds:fit_thresholds",
    "watch": "watching:watch",
    "watch_counties": "watching:watch_counties",
}
__all__ = [
    "Calibration",
    "Comparison",
    "EventTable",
    "MapReport",
    "RiskIndex",
    "RiskTable",
    "SafetyReport",
    "Thresholds",
    "WatchReport",
    "calibrate",
    "compare",
    "create_risk_model",
    "events",
    "map",
    "read_table",
    "risk_models",
    "safety",
    "thresholds",
    "watch",
    "watch_counties",
]


def __getattr__(name: str) -> object:
    if name not in _HOMES:
        raise AttributeError(f"module 'zoo.risk' has no attribute {name!r}")
    module, _, attribute = _HOMES[name].partition(":")
    return getattr(import_module(f"zoo.risk.{module}"), attribute)


def __dir__() -> list[str]:
    return list(__all__)
