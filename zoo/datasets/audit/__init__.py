"""Leakage between the splits of a data set: who shares pixels, places, landslides or scenes with whom."""

from __future__ import annotations

from zoo.datasets.audit.remembered import verdict
from zoo.datasets.audit.report import KINDS, Audit, AuditSummary, SharedScene, Touch
from zoo.datasets.audit.run import audit

__all__ = ["KINDS", "Audit", "AuditSummary", "SharedScene", "Touch", "audit", "verdict"]
