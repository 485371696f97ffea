"""The audit's verdict in one line, kept so that the next benchmark on the same patches has it at once."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path

from zoo.datasets.audit.report import AuditSummary
from zoo.datasets.audit.run import audit
from zoo.datasets.base import PatchDataset
from zoo.errors import ZooError
from zoo.files import cache_folder, write_json_atomic

VERSION = 3
"""To be raised when the audit finds more, so that old verdicts are not believed."""

MOST = 6000
"""Patches above which shifted overlaps are left to ``zoo audit``: they would take minutes [O]."""


def verdict(splits: Mapping[str, PatchDataset], fingerprints: Mapping[str, str]) -> AuditSummary:
    """Audit splits, or remember what an audit of the same patches found.

    Args:
        splits: data sets by split name.
        fingerprints: of each.

    Returns:
        Whether they leak, one line that says so, and how many patches touch.

    Raises:
        ZooError: as :func:`zoo.datasets.audit.audit`.
    """
    kept = _kept(fingerprints)
    with suppress(OSError, ValueError, KeyError, TypeError):
        return AuditSummary.from_dict(json.loads(kept.read_text(encoding="utf-8")))
    whole = sum(len(dataset) for dataset in splits.values()) <= MOST
    found = audit(splits, overlaps=whole).summary()
    # A cache that cannot be written costs the next run some seconds, and is no reason to stop this one.
    with suppress(ZooError):
        write_json_atomic(kept, found.to_dict())
    return found


def _kept(fingerprints: Mapping[str, str]) -> Path:
    content = json.dumps([VERSION, dict(fingerprints)], sort_keys=True)
    return cache_folder("audits") / f"{hashlib.sha256(content.encode()).hexdigest()[:32]}.json"
