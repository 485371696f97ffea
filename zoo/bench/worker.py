"""A trial in a process of its own: what kills it, kills nothing else.

The processes are forked from a server that has imported torch, Lightning and torchgeo once and run nothing, so
that a trial starts in a fraction of a second instead of ten. Where there is no fork, they are spawned.
"""

from __future__ import annotations

import multiprocessing
import os
import signal
import sys
import threading
import time
from collections.abc import Callable
from multiprocessing import forkserver
from multiprocessing.connection import Connection
from multiprocessing.context import ForkServerContext, SpawnContext
from pathlib import Path

from zoo.bench.config import TrialConfig
from zoo.bench.results import TrialResult

Progress = Callable[[str, int, int], None]
TrialContext = ForkServerContext | SpawnContext


def trial_context() -> TrialContext:
    """The way processes are started here; begins the heavy imports in the background, once."""
    if "forkserver" not in multiprocessing.get_all_start_methods():
        return multiprocessing.get_context("spawn")
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["zoo.bench.trial"])
    forkserver.ensure_running()
    return context


def run_isolated(
    config: TrialConfig,
    bundle: Path,
    log: Path,
    progress: Progress,
    *,
    context: TrialContext | None = None,
    checkpoints: Path | None = None,
    resume: bool = False,
) -> TrialResult:
    """Run a trial in its own process, within the recipe's time limit.

    Args:
        config: the trial.
        bundle: folder for the bundle.
        log: file for what the process prints.
        progress: told of stage, done, total.
        context: from :func:`trial_context`.
        checkpoints: folder for the private resume state of the training; ``None`` for none.
        resume: go on from that state.

    Returns:
        The trial's own result; or one with status ``failed`` or ``out-of-memory`` when the process died or was
        stopped, saying where it was.
    """
    context = context or trial_context()
    log.parent.mkdir(parents=True, exist_ok=True)
    receiver, sender = context.Pipe(duplex=False)
    process = context.Process(target=_child, args=(sender, config, bundle, log, checkpoints, resume), daemon=True)
    process.start()
    sender.close()
    limit = config.recipe.time_limit
    deadline = None if limit is None else time.monotonic() + limit
    stage, done, total = "start", 0, 1
    try:
        while True:
            left = None if deadline is None else deadline - time.monotonic()
            if left is not None and (left <= 0 or not receiver.poll(left)):
                return TrialResult(
                    config,
                    "failed",
                    f"time limit of {limit:g} s reached in stage {stage!r}, {done} of {total} done",
                    {},
                )
            try:
                message = receiver.recv()
            except EOFError:
                process.join()
                return TrialResult(config, *_cause_of_death(process.exitcode, stage, log), {})
            if isinstance(message, TrialResult):
                return message
            stage, done, total = message
            progress(stage, done, total)
    finally:
        receiver.close()
        if process.is_alive():
            process.join(timeout=1)
        if process.is_alive():
            process.kill()
        process.join()


def _child(
    sender: Connection, config: TrialConfig, bundle: Path, log: Path, checkpoints: Path | None, resume: bool
) -> None:
    # The parent decides what Ctrl-C means: it stops the trial that runs and keeps those that are done.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    threading.Thread(target=_end_with_parent, daemon=True).start()
    handle = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o644)
    for stream in (sys.stdout, sys.stderr):
        stream.flush()
    os.dup2(handle, 1)
    os.dup2(handle, 2)

    from zoo.bench.trial import run_trial

    def report(stage: str, done: int, total: int) -> None:
        sender.send((stage, done, total))

    result = run_trial(config, bundle, report, checkpoints=checkpoints, resume=resume)
    trace = result.measured.pop("traceback", None)
    if trace:
        print(trace, file=sys.stderr, flush=True)
    sender.send(result)
    sender.close()


def _end_with_parent() -> None:
    parent = multiprocessing.parent_process()
    if parent is not None:
        parent.join()
        os._exit(1)


def _cause_of_death(exit_code: int | None, stage: str, log: Path) -> tuple[str, str]:
    if exit_code is not None and exit_code < 0:
        name = signal.Signals(-exit_code).name
        if name == "SIGKILL":
            return "out-of-memory", f"killed by the system in stage {stage!r}, most likely for want of memory"
        return "failed", f"the process died of {name} in stage {stage!r}; see {log}"
    return "failed", f"the process ended with exit code {exit_code} in stage {stage!r}; see {log}"
