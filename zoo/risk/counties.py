"""Forecast runs of many counties, each in a separate process, on this machine or on a Ray cluster."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from zoo.errors import ConfigError
from zoo.jobs import Executor, Job, LocalExecutor, Outcome, ProgressCallback, RayExecutor, Work
from zoo.rasters.rain_files import RainPaths
from zoo.risk.watching import WatchReport, watch

NAME = "{name}"
"""Placeholder for the name of a county in a path."""


def watch_counties(
    stacks: Sequence[str | os.PathLike[str]],
    rain: RainPaths,
    out: str | os.PathLike[str],
    *,
    weights: str | os.PathLike[str] | None = None,
    districts: str | os.PathLike[str] | None = None,
    jobs: int = 1,
    cluster: str | None = None,
    progress: ProgressCallback | None = None,
    **options: Any,
) -> dict[str, Outcome[WatchReport]]:
    """Run :func:`watch` on many counties. The command is ``zoo risk watch`` with several stacks.

    A county that fails does not stop the others. Each has its own folder, so an interrupted run resumes.

    Args:
        stacks: one raster per county; its name without the suffix is the name of the county.
        rain: see :func:`watch`.
        out: folder; each county gets ``out/NAME``.
        weights, districts: see :func:`watch`; ``{name}`` in a path is replaced by the name of the county.
        jobs: number of counties at a time; on a cluster, at a time on the smallest node.
        cluster: address of a Ray cluster (:func:`zoo.jobs.connected`), whose nodes reach all files under the same
            paths; None for this machine.
        progress: called with the number of counties done and the total.
        **options: further options of :func:`watch`, the same for all.

    Returns:
        The outcome of each county by name: its report, or why there is none (:class:`zoo.jobs.Outcome`).

    Raises:
        ConfigError: if two stacks have the same name, or the cluster cannot be used.

    Example:
        >>> import zoo
        >>> found = zoo.risk.watch_counties(["hongya.tif", "emei.tif"], "imerg/", "watch/", jobs=2)  # doctest: +SKIP
        >>> found["emei"].unwrap().alerts  # doctest: +SKIP
    """
    names = [Path(stack).stem for stack in stacks]
    twice = [name for name in names if names.count(name) > 1]
    if twice:
        raise ConfigError(f"two stacks are called {twice[0]}", hint="Their names are used as the names of the counties")
    paths = [rain] if isinstance(rain, (str, os.PathLike)) else list(rain)
    todo = [
        Job[WatchReport](
            f"{__name__}:run_county",
            {
                "stack": Path(stack).absolute(),
                "rain": [Path(path).absolute() for path in paths],
                "out": Path(out).absolute() / name,
                "weights": _path_of(weights, name),
                "districts": _path_of(districts, name),
                **options,
            },
            name=name,
        )
        for name, stack in zip(names, stacks, strict=True)
    ]
    found: dict[str, Outcome[WatchReport]] = {}
    executor: Executor[WatchReport]
    executor = LocalExecutor[WatchReport](jobs) if cluster is None else RayExecutor[WatchReport](cluster, jobs)
    with executor:
        waiting = list(reversed(todo))
        while len(found) < len(todo):
            while waiting and executor.free:
                executor.submit(waiting.pop())
            found |= {job.name: outcome for job, outcome in executor.poll()}
            if progress is not None:
                progress(len(found), len(todo))
    return {name: found[name] for name in names}


def _path_of(path: str | os.PathLike[str] | None, name: str) -> Path | None:
    return None if path is None else Path(os.fspath(path).replace(NAME, name)).absolute()


def run_county(given: dict[str, Any], work: Work) -> WatchReport:
    """Run :func:`watch` in a child process."""
    return watch(**given, progress=lambda done, total: work.report("mapping steps", done, total))
