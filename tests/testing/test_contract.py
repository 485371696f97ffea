"""Every model that is registered by itself keeps the contract."""

from __future__ import annotations

from zoo.registry import catalogue
from zoo.testing import model_contract

test_contract = model_contract(*(spec.name for spec in catalogue().models.match()))
