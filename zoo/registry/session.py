"""Models that a notebook or script registers for its session.

Child processes of a benchmark read them from the environment variable ``ZOO_SESSION_MODELS``, and import them by module
and name.
"""

from __future__ import annotations

import inspect
import json
import os
from collections.abc import Callable
from dataclasses import dataclass, field, fields
from typing import Any

from zoo.errors import PluginError
from zoo.registry.specs import ModelSpec

SESSION = "this session"
"""Provider name of these models."""

_VARIABLE = "ZOO_SESSION_MODELS"

_registered: dict[str, SessionModelSpec] = {}


@dataclass(frozen=True, kw_only=True)
class SessionModelSpec(ModelSpec):
    """A model of this session.

    Attributes:
        factory: the class or function; ``None`` in a child process, which imports the target.
    """

    factory: Callable[..., Any] | None = field(default=None, repr=False, compare=False)

    def resolve(self, target: str | None = None) -> Callable[..., Any]:
        """Return the class or function; see :meth:`Spec.resolve`."""
        if self.factory is not None and target is None:
            return self.factory
        module = self.target.partition(":")[0]
        if module in ("__main__", "__mp_main__"):
            raise PluginError(
                f"{self.label} is defined in a notebook or script, and a child process cannot import it",
                hint="Move the class to a file, import it from there, and register it",
            )
        return super().resolve(target)

    def to_dict(self) -> dict[str, object]:
        """Return the spec as plain JSON values."""
        return {name: value for name, value in super().to_dict().items() if name != "factory"}


def session_spec(target: Callable[..., Any], **values: Any) -> SessionModelSpec:
    """Return the spec of a class or function of this session."""
    if not callable(target):
        raise PluginError(f"a model must be a class or a function, not {target!r}", where=values["name"])
    place = f"{target.__module__}:{target.__qualname__.replace('<locals>.', '')}"
    if not values["summary"]:
        values["summary"] = (inspect.getdoc(target) or "registered in this session").splitlines()[0]
    if "<locals>" in target.__qualname__ or "<lambda>" in target.__qualname__:
        place = f"__main__:{values['name'].replace('-', '_').replace('.', '_')}"
    return SessionModelSpec(target=place, factory=target, **values)


def store_session_model(spec: SessionModelSpec) -> None:
    """Store a model for :func:`session_models`, and pass it on to child processes."""
    _registered[spec.name] = spec
    os.environ[_VARIABLE] = json.dumps({**_models_in_environment(), spec.name: spec.to_dict()})


def session_models() -> list[SessionModelSpec]:
    """Return the models that this process or its parent registered."""
    found = dict(_registered)
    for name, values in _models_in_environment().items():
        if name not in found:
            known = {field.name for field in fields(ModelSpec)}
            kept = {key: value for key, value in values.items() if key in known}
            found[name] = SessionModelSpec(**{**kept, "flags": frozenset(kept["flags"]), "encoder_weights": ()})
    return list(found.values())


def _models_in_environment() -> dict[str, dict[str, Any]]:
    try:
        found = json.loads(os.environ.get(_VARIABLE, "{}"))
    except json.JSONDecodeError:
        return {}
    return found if isinstance(found, dict) else {}
