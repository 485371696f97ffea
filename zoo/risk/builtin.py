"""The built-in risk models of risk, registered by the hook that plugins use. Imports no scikit-learn."""

from __future__ import annotations

from zoo.registry.hookspecs import RegisterRiskModel, hookimpl
from zoo.registry.specs import RiskModelSpec

_HERE = "zoo.risk.models"
_TABLE = "[P] Table 2"

TABLE_2: tuple[RiskModelSpec, ...] = (
    RiskModelSpec(
        name="svm",
        title="SVM",
        target=f"{_HERE}.svm:SupportVectors",
        summary="support vectors with a radial kernel, calibrated",
        source=_TABLE,
    ),
    RiskModelSpec(
        name="random_forest",
        title="Random Forest",
        target=f"{_HERE}.forest:Forest",
        summary="random forest, tuned on inner folds",
        source=_TABLE,
    ),
    RiskModelSpec(
        name="xgboost",
        title="XGBoost",
        target=f"{_HERE}.boosting:Boosting",
        summary="gradient-boosted trees, tuned on inner folds",
        source=_TABLE,
    ),
    RiskModelSpec(
        name="gamm",
        title="GAMM",
        target=f"{_HERE}.gamm:AdditiveMixed",
        summary="splines, and ridge-penalised intercepts of regions or events",
        source=_TABLE,
    ),
    RiskModelSpec(
        name="lsi_without_rain",
        title="LSI without Rainfall",
        target=f"{_HERE}.index:RainlessIndex",
        summary="the risk index, rainfall factor 1",
        source=_TABLE,
    ),
    RiskModelSpec(
        name="lsi",
        title="LSI",
        target=f"{_HERE}.index:RainIndex",
        summary="the risk index, equation 4",
        needs_rain=True,
        source=_TABLE,
    ),
)
"""The rows of Table 2, in its order."""

BESIDE: tuple[RiskModelSpec, ...] = (
    RiskModelSpec(
        name="dynamic_thresholds",
        title="Dynamic thresholds [55]",
        target=f"{_HERE}.thresholds:DynamicThresholds",
        summary="binomial GAMM whose cutpoints tied to hit and false-alarm rates are thresholds of rain",
        needs_rain=True,
        source="[P] section 3.5.1",
    ),
    RiskModelSpec(
        name="spatial_meteo",
        title="Spatial x meteorological GAMM [6]",
        target=f"{_HERE}.spatial_meteo:SpatialMeteo",
        summary="one model of the place and one of the rain, combined",
        needs_rain=True,
        source="[P] section 3.5.2",
    ),
    RiskModelSpec(
        name="random_forest_untuned",
        title="Random Forest, untuned",
        target=f"{_HERE}.forest:Forest",
        summary="random forest as scikit-learn gives it, to hold tuned models against",
        settings={"tune": False},
        in_all=False,
        source="[O]",
    ),
)
"""Section 3.5, and what models are held against."""


@hookimpl
def zoo_register_risk_models(register: RegisterRiskModel) -> None:
    """Register the risk models of this package."""
    for spec in (*TABLE_2, *BESIDE):
        register(spec)
