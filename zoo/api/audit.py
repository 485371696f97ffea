"""``zoo.audit``: find leakage between the splits of a data set."""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from zoo.datasets.source import DataSource

if TYPE_CHECKING:
    from zoo.datasets.audit import Audit
    from zoo.datasets.base import PatchDataset
    from zoo.jobs import StageCallback


def audit(
    data: str | os.PathLike[str] | DataSource | Mapping[str, PatchDataset],
    *,
    overlaps: bool = True,
    progress: StageCallback | None = None,
    **options: Any,
) -> Audit:
    """Find what the train, val and test splits of a data set share.

    The audit searches for equal images, copies that were rotated, brightened or compressed, patches that overlap,
    landslides with the same outline, neighbours on the ground, and scenes in two splits.

    Args:
        data: name of a registered data set, path of a folder of images and masks, or data sets by split name.
        overlaps: search for shifted overlaps, the slowest of the checks.
        progress: called with the name of the stage, the number of items done and the number of all items.
        **options: options of the data set, such as ``split_by="block"`` or ``group_column="scene"``.

    Returns:
        The findings. ``leaks`` says whether any two splits touch, ``to_pandas()`` lists every pair.

    Raises:
        ZooError: if the data are missing or damaged, or an option is wrong.

    Examples:
        >>> found = zoo.audit("patches/", split_by="random")  # doctest: +SKIP
        >>> found  # doctest: +SKIP
        <Audit: LEAK 379 of 396 test patches touch training patches>
        >>> found.to_pandas().head()  # doctest: +SKIP
    """
    from zoo.datasets.audit import audit_splits

    if isinstance(data, Mapping):
        splits = data
    else:
        splits = DataSource.of(data, options).open_splits()
    return audit_splits(splits, overlaps=overlaps, progress=progress)
