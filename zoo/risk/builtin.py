"""Built-in risk models, registered with the same hook as plugins. Does not import scikit-learn."""

from __future__ import annotations

from zoo.registry.hookspecs import RegisterRiskModel, hookimpl
from zoo.registry.specs import RiskModelSpec

_MODELS = "zoo.risk.models"
_TABLE = "[P] Table 2"

TABLE_2: tuple[RiskModelSpec, ...] = (
    RiskModelSpec(
        name="svm",
        title="SVM",
        target=f"{_MODELS}.svm:SupportVectors",
        summary="support vector machine with an RBF kernel, calibrated",
        source=_TABLE,
    ),
    RiskModelSpec(
        name="random_forest",
        title="Random Forest",
        target=f"{_MODELS}.trees:Forest",
        summary="random forest, tuned on inner folds",
        source=_TABLE,
    ),
    RiskModelSpec(
        name="xgboost",
        title="XGBoost",
        target=f"{_MODELS}.trees:Boosting",
        summary="gradient-boosted trees, tuned on inner folds",
        source=_TABLE,
    ),
    RiskModelSpec(
        name="gamm",
        title="GAMM",
        target=f"{_MODELS}.additive:AdditiveMixed",
        summary="splines, and ridge-penalised intercepts of regions or events",
        source=_TABLE,
    ),
    RiskModelSpec(
        name="lsi_without_rain",
        title="LSI without Rainfall",
        target=f"{_MODELS}.index:RainlessIndex",
        summary="the risk index with rainfall factor 1",
        source=_TABLE,
    ),
    RiskModelSpec(
        name="lsi",
        title="LSI",
        target=f"{_MODELS}.index:RainIndex",
        summary="the risk index, equation 4",
        needs_rain=True,
        source=_TABLE,
    ),
)
"""Models of Table 2, in its order."""

OTHER_MODELS: tuple[RiskModelSpec, ...] = (
    RiskModelSpec(
        name="dynamic_thresholds",
        title="Dynamic thresholds [55]",
        target=f"{_MODELS}.additive:DynamicThresholds",
        summary="binomial GAMM whose probability cutpoints become rain thresholds",
        needs_rain=True,
        source="[P] section 3.5.1",
    ),
    RiskModelSpec(
        name="spatial_meteo",
        title="Spatial x meteorological GAMM [6]",
        target=f"{_MODELS}.additive:SpatialMeteo",
        summary="a model of the place and a model of the rain, combined",
        needs_rain=True,
        source="[P] section 3.5.2",
    ),
    RiskModelSpec(
        name="random_forest_untuned",
        title="Random Forest, untuned",
        target=f"{_MODELS}.trees:Forest",
        summary="random forest with scikit-learn's defaults, a baseline for the tuned models",
        settings={"tune": False},
        in_all=False,
        source="[O]",
    ),
)
"""Models of section 3.5, and a baseline."""


@hookimpl
def zoo_register_risk_models(register: RegisterRiskModel) -> None:
    """Register the built-in risk models."""
    for spec in (*TABLE_2, *OTHER_MODELS):
        register(spec)
