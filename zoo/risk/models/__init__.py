"""The models of Table 2 and of section 3.5 behind one scikit-learn interface, by name."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

from zoo.errors import ConfigError, UnknownNameError
from zoo.registry import RiskModelSpec, catalogue
from zoo.risk.builtin import BESIDE, TABLE_2

if TYPE_CHECKING:
    import pandas as pd

    from zoo.risk.models.base import RiskModel


def risk_models() -> dict[str, RiskModelSpec]:
    """What can be compared by name: Table 2 in its order, what stands beside it, then what plugins brought."""
    table = catalogue().risk_models
    first = [spec.name for spec in (*TABLE_2, *BESIDE)]
    rest = [name for name in table if name not in first]
    return {name: table.get(name) for name in (*first, *rest) if name in table}


def select_risk_models(names: str, rain: bool) -> list[str]:
    """Turn ``all`` or names between commas into names.

    Args:
        names: ``all`` stands for the six of Table 2, those of plugins and, when rain is known, the two of section 3.5.
        rain: true when the table has rain columns.

    Raises:
        UnknownNameError: for a name that there is not.
        ConfigError: if nothing is named.
    """
    known = risk_models()
    table = {spec.name for spec in TABLE_2}
    chosen: list[str] = []
    for name in (part.strip() for part in names.split(",") if part.strip()):
        if name == "all":
            chosen += [
                one.name for one in known.values() if one.in_all and (rain or not one.needs_rain or one.name in table)
            ]
        elif name in known:
            chosen.append(name)
        else:
            raise UnknownNameError("risk model", name, [*known, "all"], where="option models")
    if not chosen:
        raise ConfigError("no risk model is named", where="option models", hint=f"There are: {', '.join(known)}")
    return list(dict.fromkeys(chosen))


def create_risk_model(name: str, **options: Any) -> RiskModel:
    """Make an unfitted risk model.

    Args:
        name: one of :func:`risk models`.
        options: of its constructor; a plain scikit-learn classifier of a plugin takes none.

    Raises:
        UnknownNameError: for a name that there is not.
        ConfigError: if the libraries of the extra ``risk`` are not installed.
    """
    spec = catalogue().risk_models.get(name)
    require_risk()
    if spec.plain:
        from zoo.risk.models.plain import Plain

        return Plain(spec.resolve()(), **options)
    made: RiskModel = spec.resolve()(**{**spec.settings, **options})
    return made


def unsupported_reason(name: str, features: pd.DataFrame) -> str | None:
    """Say in one sentence why a risk model cannot use these features; None when it can."""
    spec = catalogue().risk_models.get(name)
    if not spec.unsupported_reason:
        return None
    reason: str | None = spec.resolve(spec.unsupported_reason)(features)
    return reason


def require_risk() -> None:
    """Say how to install what the risk models need.

    Raises:
        ConfigError: if scikit-learn or XGBoost is not installed.
    """
    for library in ("sklearn", "xgboost"):
        try:
            import_module(library)
        except ImportError as error:
            raise ConfigError(
                f"comparing risk models needs {library}, which is not installed ({error})",
                hint="pip install 'landslide-zoo[risk]'",
            ) from error
