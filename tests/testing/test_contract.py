"""Every registered model keeps the contract."""

from __future__ import annotations

from zoo.registry import list_models
from zoo.testing import model_contract

test_contract = model_contract(*list_models())
