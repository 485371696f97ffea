"""Leakage between the splits of a data set: who shares pixels, places, landslides or scenes with whom."""

from __future__ import annotations

from zoo.datasets.audit.leakage import KINDS, Audit, AuditSummary, SharedScene, TouchingPair, audit, verdict

__all__ = ["KINDS", "Audit", "AuditSummary", "SharedScene", "TouchingPair", "audit", "verdict"]
