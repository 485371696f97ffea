"""Risk models of Table 2 and section 3.5, by name, with a common scikit-learn interface."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

from zoo.errors import ConfigError, UnknownNameError
from zoo.registry import RiskModelSpec, catalogue
from zoo.risk.builtin import OTHER_MODELS, TABLE_2

if TYPE_CHECKING:
    import pandas as pd

    from zoo.risk.models.base import RiskModel


def risk_models() -> dict[str, RiskModelSpec]:
    """Return the registered risk models by name: those of Table 2 in its order, other built-in ones, then plugins."""
    table = catalogue().risk_models
    first = [spec.name for spec in (*TABLE_2, *OTHER_MODELS)]
    rest = [name for name in table if name not in first]
    return {name: table.get(name) for name in (*first, *rest) if name in table}


def select_risk_models(names: str, rain: bool) -> list[str]:
    """Expand ``all`` and split names at commas.

    Args:
        names: names separated by commas. ``all`` selects the six models of Table 2, those of plugins and, if
            ``rain`` is true, the two of section 3.5.
        rain: whether the table has rain columns.

    Raises:
        UnknownNameError: if a name is not registered.
        ConfigError: if ``names`` is empty.
    """
    known = risk_models()
    table = {spec.name for spec in TABLE_2}
    chosen: list[str] = []
    for name in (part.strip() for part in names.split(",") if part.strip()):
        if name == "all":
            chosen += [
                spec.name
                for spec in known.values()
                if spec.in_all and (rain or not spec.needs_rain or spec.name in table)
            ]
        elif name in known:
            chosen.append(name)
        else:
            raise UnknownNameError("risk model", name, [*known, "all"], where="option models")
    if not chosen:
        raise ConfigError("no risk model is named", where="option models", hint=f"Choose from: {', '.join(known)}")
    return list(dict.fromkeys(chosen))


def create_risk_model(name: str, **options: Any) -> RiskModel:
    """Create an unfitted risk model.

    Args:
        name: one of :func:`risk_models`.
        options: keyword arguments of its class.

    Raises:
        UnknownNameError: if the name is not registered.
        ConfigError: if the libraries of the extra ``risk`` are not installed.

    Example:
        >>> from zoo.risk.models import create_risk_model
        >>> model = create_risk_model("gamm", smoothness=10.0)
        >>> model.smoothness
        10.0
    """
    spec = catalogue().risk_models.get(name)
    require_risk()
    if spec.plain:
        from zoo.risk.models.base import PlainClassifier

        return PlainClassifier(classifier=spec.resolve()(), **options)
    made: RiskModel = spec.resolve()(**{**spec.settings, **options})
    return made


def unsupported_reason(name: str, features: pd.DataFrame) -> str | None:
    """Return the reason why a risk model cannot use these features, as a sentence, or None if it can."""
    spec = catalogue().risk_models.get(name)
    if not spec.unsupported_reason:
        return None
    reason: str | None = spec.resolve(spec.unsupported_reason)(features)
    return reason


def require_risk() -> None:
    """Check that the libraries of the extra ``risk`` are installed.

    Raises:
        ConfigError: if scikit-learn or XGBoost is not installed; the hint says how to install it.
    """
    for library in ("sklearn", "xgboost"):
        try:
            import_module(library)
        except ImportError as error:
            raise ConfigError(
                f"comparing risk models needs {library}, which is not installed ({error})",
                hint="pip install 'landslide-zoo[risk]'",
            ) from error
