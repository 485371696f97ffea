"""The former home of the registrations, for environments whose installed entry points still name it."""

from zoo.risk.builtin import zoo_register_risk_models

__all__ = ["zoo_register_risk_models"]
