"""Run work in child processes, on this machine or on a Ray cluster.

A :class:`Job` names a function by its import path and gives it one argument. The function runs in its own process, so
that a crash, a hang or a lack of memory ends only that process. It is called as ``function(argument, work)`` and
reports progress through :class:`Work`; its return value is the value of the :class:`Outcome`.

>>> job = Job("zoo.somewhere:compute", argument)                        # doctest: +SKIP
>>> outcome = run_job(job, lambda stage, done, total: print(stage, done, total))  # doctest: +SKIP
>>> outcome.unwrap()                                                    # doctest: +SKIP

An :class:`Executor` runs many jobs: :class:`LocalExecutor` runs a few at a time on this machine, :class:`RayExecutor`
runs them on the nodes of a cluster. Ray is imported on first use.

Processes are forked from a server process that has imported the heavy libraries once and has started no threads, so a
job starts in a fraction of a second; see :func:`prepare`. Without fork, each process imports the libraries again.
The caller's main script never runs in a child process, so scripts and notebooks need no ``if __name__`` guard.
"""

from __future__ import annotations

import faulthandler
import importlib
import logging
import math
import multiprocessing
import os
import shutil
import signal
import socket
import sys
import tempfile
import threading
import time
import traceback
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass, field, replace
from multiprocessing import forkserver, resource_tracker
from multiprocessing.connection import Connection, wait
from multiprocessing.context import ForkServerContext, SpawnContext
from multiprocessing.process import BaseProcess
from pathlib import Path
from types import TracebackType
from typing import Any, Generic, Literal, Protocol, Self, TypeAlias, TypeVar

from zoo.errors import ConfigError, PluginError, ZooError, error_message, first_line
from zoo.files import atomic_path, open_own_file
from zoo.machine import waiting_variables

T = TypeVar("T")
ProgressCallback: TypeAlias = Callable[[int, int], None]
"""Called with the number of items done and the total."""
StageCallback: TypeAlias = Callable[[str, int, int], None]
"""Called with the name of a stage, the number of its items done and their total."""
Status = Literal["ok", "failed", "out-of-memory"]

POLL_S = 1.0
"""Longest time in seconds that :meth:`Executor.poll` waits."""
CONNECT_TIMEOUT_S = 5.0
"""Time limit in seconds for the head of a cluster to answer; Ray itself would try for minutes."""
NODE_RETRIES = 3
"""Maximum number of reruns of a job whose cluster node died."""

_SIGNALS = {signal.SIGINT, signal.SIGTERM}
_Files: TypeAlias = dict[str, bytes]


def _zoo_environment() -> dict[str, str]:
    names = ("ZOO_PLUGINS", "ZOO_STRICT_PLUGINS", "ZOO_SESSION_MODELS")
    return {name: os.environ[name] for name in names if name in os.environ}


@dataclass(frozen=True)
class Job(Generic[T]):
    """One call of a function in a child process.

    Attributes:
        function: import path of the function, ``package.module:name``.
        argument: its first argument; it must be picklable.
        name: name for messages and progress, unique among the jobs that run at the same time.
        reads: folders that the function reads, by their name in :attr:`Work.folders`. On a cluster their files are
            copied to the node.
        writes: folders that the function writes. On a cluster their files are copied back.
        scratch: folders for private state, which stay on the machine that runs the job.
        log: file for the output of the process; ``None`` discards it. A symbolic link is refused.
        append_log: append to the log; otherwise the log starts empty.
        time_limit: time limit in seconds for all attempts together; ``None`` for no limit.
        threads: number of threads of the numerical libraries; ``None`` for their default.
        gpus: number of GPUs that the job uses, 0 or 1.
        environment: environment variables that are set in the process before the function runs; by default those that
            select plugins and models, because the server process has the values from its start.
        fresh: start a new interpreter instead of forking the server process; for work that needs few imports.
        retry: called after an attempt ran out of memory, with the job and its outcome. It returns the job to try next,
            or ``None`` to give up.
    """

    function: str
    argument: Any = None
    name: str = ""
    reads: Mapping[str, Path] = field(default_factory=dict)
    writes: Mapping[str, Path] = field(default_factory=dict)
    scratch: Mapping[str, Path] = field(default_factory=dict)
    log: Path | None = None
    append_log: bool = False
    time_limit: float | None = None
    threads: int | None = None
    gpus: int = 0
    environment: Mapping[str, str] = field(default_factory=_zoo_environment)
    fresh: bool = False
    retry: Callable[[Job[T], Outcome[T]], Job[T] | None] | None = None

    @property
    def folders(self) -> dict[str, Path]:
        """All folders, by name."""
        return {**self.reads, **self.writes, **self.scratch}


@dataclass(frozen=True)
class Outcome(Generic[T]):
    """Result of a job.

    Attributes:
        status: ``ok``; ``out-of-memory``, also if the system killed the process; or ``failed``.
        value: return value of the function. After a failure, the last value passed to :meth:`Work.keep`.
        error: the reason in one line; empty when the status is ``ok``.
        exception: the error that the function raised, if it was a :class:`~zoo.errors.ZooError`.
        argument: argument of the last attempt; after a retry it differs from that of the job.
        stage: stage that was reported last.
    """

    status: Status
    value: T | None = None
    error: str = ""
    exception: ZooError | None = None
    argument: Any = None
    stage: str = ""

    def unwrap(self) -> T:
        """Return the value.

        Raises:
            ZooError: if the job failed; the function's own error if there is one.
        """
        if self.status != "ok":
            raise self.exception or ZooError(self.error)
        return self.value  # type: ignore[return-value]


class Work:
    """Interface through which a function in a child process reports to its parent.

    Args:
        folders: folders of the job, by name.
        send: sends a message to the parent process; ``None`` if the function is called directly.

    Attributes:
        folders: folders of the job, by name. On a cluster they differ from those of the job.
    """

    def __init__(
        self, folders: Mapping[str, Path] | None = None, send: Callable[[tuple[Any, ...]], None] | None = None
    ) -> None:
        self.folders = dict(folders or {})
        self._send = send or (lambda _message: None)

    def report(self, stage: str, done: int, total: int) -> None:
        """Report progress: ``done`` of ``total`` items of a stage."""
        self._send(("stage", stage, done, total))

    def keep(self, value: object) -> None:
        """Send an intermediate value, which becomes the outcome's value if the process dies."""
        self._send(("kept", value))


def describe_failure(error: BaseException) -> tuple[Status, str]:
    """Return the status and the one-line reason for an exception."""
    text = error_message(error)
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    first = lines[0] if lines else ""
    if ran_out_of_memory(error):
        return "out-of-memory", first or "out of memory"
    if isinstance(error, ZooError):
        return "failed", text
    return "failed", f"{type(error).__name__}: {first}" if first else type(error).__name__


def ran_out_of_memory(error: BaseException) -> bool:
    """Return whether an exception means that memory ran out."""
    # Compare names: torch, which defines OutOfMemoryError, must not be imported here.
    named = type(error).__name__ == "OutOfMemoryError"
    return named or isinstance(error, MemoryError) or "can't allocate memory" in error_message(error)


def prepare(*modules: str) -> None:
    """Start the server process that jobs are forked from, and import modules there in the background.

    Call it early: the imports take seconds. Later calls have no effect, because the server is already running.

    Args:
        modules: modules to import in the server; they must not start threads.
    """
    context = _context(fresh=False)
    if isinstance(context, ForkServerContext):
        context.set_forkserver_preload(list(modules))
        # The tracker unblocks signals when it starts, so it must start first.
        resource_tracker.ensure_running()
        with _signals_blocked({signal.SIGINT}), _variables(waiting_variables()):
            forkserver.ensure_running()


def run_job(job: Job[T], progress: StageCallback | None = None) -> Outcome[T]:
    """Run one job on this machine and wait for it.

    Args:
        job: the job.
        progress: called with stage, done and total.

    Raises:
        KeyboardInterrupt: if the user interrupts; the process is stopped first.
    """
    report = progress or (lambda stage, done, total: None)
    executor: LocalExecutor[T] = LocalExecutor(1, lambda _job, stage, done, total: report(stage, done, total))
    with executor:
        executor.submit(job)
        while not (ended := executor.poll()):
            pass
        return ended[0][1]


JobProgress: TypeAlias = Callable[[Job[Any], str, int, int], None]
"""Called with a running job, the name of its stage, the number of items done and their total."""


class Executor(Protocol[T]):
    """Base class of executors, which run jobs. A context manager: on exit it stops the jobs that are still running."""

    def __enter__(self) -> Self:
        """Start the executor."""

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Stop the jobs that are still running."""

    @property
    def free(self) -> bool:
        """Whether another job can be submitted."""

    def submit(self, job: Job[T]) -> None:
        """Start a job."""

    def poll(self) -> list[tuple[Job[T], Outcome[T]]]:
        """Wait until a job reports or :data:`POLL_S` has passed; return the jobs that ended, as they were submitted."""


class LocalExecutor(Generic[T]):
    """Executor that runs up to ``slots`` jobs at a time on this machine.

    Args:
        slots: number of jobs that run at the same time.
        progress: called when a job reports progress.
        threads: threads to divide among the slots; ``None`` leaves the number to each job.
        gpus: identifiers of GPUs, in the format of ``CUDA_VISIBLE_DEVICES``, to divide among jobs that use one.

    Raises:
        ConfigError: if ``slots`` is less than 1.
    """

    def __init__(
        self,
        slots: int = 1,
        progress: JobProgress | None = None,
        *,
        threads: int | None = None,
        gpus: Sequence[str] = (),
    ) -> None:
        _check_slots(slots)
        self.slots = slots
        self._progress = progress
        self._threads = threads
        self._gpus = list(gpus)
        self._running: dict[int, _Running[T]] = {}

    def __enter__(self) -> Self:
        """Start the executor."""
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Kill the processes that are still running."""
        with _signals_blocked():
            for running in self._running.values():
                running.stop()
            self._running.clear()

    @property
    def free(self) -> bool:
        """Whether fewer jobs are running than there are slots."""
        return len(self._running) < self.slots

    def submit(self, job: Job[T]) -> None:
        """Start the process of a job.

        Raises:
            ZooError: if the log cannot be written.
        """
        slot = next(number for number in range(self.slots) if number not in self._running)
        # A signal between the start of the process and its registration would orphan the process.
        with _signals_blocked():
            self._running[slot] = _Running(job, self.place(job, slot), self._progress)

    def poll(self) -> list[tuple[Job[T], Outcome[T]]]:
        """Wait until a process reports, or at most a second; return the jobs that ended."""
        limits = [running.seconds_left for running in self._running.values() if running.seconds_left is not None]
        wait([running.connection for running in self._running.values()], timeout=min([POLL_S, *limits]))
        ended = []
        for slot, running in list(self._running.items()):
            running.advance()
            if running.outcome is not None:
                running.stop()
                del self._running[slot]
                ended.append((running.submitted, running.outcome))
        return ended

    def place(self, job: Job[T], slot: int) -> Job[T]:
        """Return the job with its share of the machine: threads and, if there are several GPUs, one of them."""
        if self.slots == 1:
            return job
        environment = dict(job.environment)
        if job.gpus and len(self._gpus) > 1:
            environment["CUDA_VISIBLE_DEVICES"] = self._gpus[slot % len(self._gpus)]
        threads = job.threads if self._threads is None else max(1, self._threads // self.slots)
        return replace(job, threads=threads, environment=environment)


class _Running(Generic[T]):
    """A job and the process that runs it; a retry starts another process.

    Attributes:
        submitted: the job as the caller knows it.
        connection: readable when :meth:`advance` has work to do.
        outcome: ``None`` while the job runs.
    """

    def __init__(self, submitted: Job[T], placed: Job[T], progress: JobProgress | None) -> None:
        self.submitted = submitted
        self.outcome: Outcome[T] | None = None
        self._job = placed
        self._progress = progress
        self._deadline = None if placed.time_limit is None else time.monotonic() + placed.time_limit
        if placed.log is not None:
            placed.log.parent.mkdir(parents=True, exist_ok=True)
            os.close(open_own_file(placed.log, "append" if placed.append_log else "write"))
        self._stage = ("start", 0, 1)
        self._kept: T | None = None
        self.connection: Connection
        self._process: BaseProcess
        self._start()

    @property
    def seconds_left(self) -> float | None:
        """Seconds until the time limit; ``None`` without one."""
        return None if self._deadline is None else max(0.0, self._deadline - time.monotonic())

    def advance(self) -> None:
        """Read the messages that have arrived and check the time limit, without waiting."""
        while self.outcome is None and self.connection.poll():
            try:
                message = self.connection.recv()
            except EOFError:
                self._process.join()
                status, error = _explain_exit(self._process.exitcode, self._stage[0], self._job.log)
                self._end(Outcome(status, self._kept, error))
                continue
            if message[0] == "stage":
                self._stage = message[1:]
                if self._progress is not None:
                    self._progress(self.submitted, *self._stage)
            elif message[0] == "kept":
                self._kept = message[1]
            else:
                self._end(message[1] if message[1].status == "ok" else replace(message[1], value=self._kept))
        if self.outcome is None and self.seconds_left == 0:
            stage, done, total = self._stage
            error = f"time limit of {self._job.time_limit:g} s reached in stage {stage!r}, {done} of {total} done"
            self.outcome = Outcome("failed", self._kept, error, argument=self._job.argument)

    def stop(self) -> None:
        """End the process: immediately if the job is still running, otherwise within a second."""
        self.connection.close()
        _end_process(self._process, patience=0.0 if self.outcome is None else 1.0)

    def _start(self) -> None:
        self._stage, self._kept = ("start", 0, 1), None
        context = _context(fresh=self._job.fresh)
        if not self._job.fresh:
            prepare(self._job.function.partition(":")[0])
        receiver, sender = context.Pipe(duplex=False)
        self.connection = receiver
        # The server process has the variables from its start; only the parent calls the retry hook.
        settings = {name: value for name, value in os.environ.items() if name.startswith("ZOO_")}
        if self._job.fresh:
            settings |= waiting_variables()
        job = replace(self._job, retry=None, environment={**settings, **self._job.environment})
        self._process = context.Process(target=_child, args=(sender, job))
        with _signals_blocked({signal.SIGINT}), _without_main_script():
            self._process.start()
        sender.close()

    def _end(self, outcome: Outcome[T]) -> None:
        outcome = replace(outcome, argument=self._job.argument, stage=self._stage[0])
        retry = self._job.retry
        following = retry(self._job, outcome) if outcome.status == "out-of-memory" and retry is not None else None
        if following is None:
            self.outcome = outcome
            return
        self.stop()
        self._job = replace(following, append_log=True)
        self._start()


def _child(sender: Connection, job: Job[Any]) -> None:
    """Run a job; the main function of a child process."""
    # The parent handles Ctrl-C: it stops running jobs and keeps finished ones.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    if hasattr(signal, "pthread_sigmask"):
        signal.pthread_sigmask(signal.SIG_UNBLOCK, _SIGNALS)
    threading.Thread(target=_end_with_parent, daemon=True).start()
    os.environ.update(job.environment)
    if job.threads is not None:
        os.environ.update(dict.fromkeys(("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS"), str(job.threads)))
    handle = os.open(os.devnull, os.O_WRONLY) if job.log is None else open_own_file(job.log, "append")
    for stream in (sys.stdout, sys.stderr):
        with suppress(OSError, ValueError, AttributeError):
            stream.flush()
    os.dup2(handle, 1)
    os.dup2(handle, 2)
    faulthandler.enable(2)  # on a crash in a library, writes the traceback to the log
    try:
        function = _resolve(job.function)
        if job.threads is not None and "torch" in sys.modules:
            sys.modules["torch"].set_num_threads(job.threads)
        outcome: Outcome[Any] = Outcome("ok", function(job.argument, Work(job.folders, sender.send)))
        sender.send(("end", outcome))
    except BaseException as error:
        if not isinstance(error, ZooError) or isinstance(error, PluginError):
            traceback.print_exc()
            with suppress(OSError, ValueError, AttributeError):
                sys.stderr.flush()
        status, reason = describe_failure(error)
        sender.send(("end", Outcome(status, None, reason, error if isinstance(error, ZooError) else None)))
    sender.close()


def _resolve(path: str) -> Callable[[Any, Work], Any]:
    module, _, name = path.partition(":")
    function: Callable[[Any, Work], Any] = getattr(importlib.import_module(module), name)
    return function


def _context(*, fresh: bool) -> ForkServerContext | SpawnContext:
    if fresh or "forkserver" not in multiprocessing.get_all_start_methods():
        return multiprocessing.get_context("spawn")
    return multiprocessing.get_context("forkserver")


@contextmanager
def _signals_blocked(signals: Iterable[signal.Signals] = _SIGNALS) -> Iterator[None]:
    """Deliver signals after the block: they do not interrupt a clean-up, and a child that starts here ignores them."""
    if not hasattr(signal, "pthread_sigmask"):
        yield
        return
    before = signal.pthread_sigmask(signal.SIG_BLOCK, signals)
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


@contextmanager
def _variables(values: Mapping[str, str]) -> Iterator[None]:
    """Set environment variables for the block; processes that start in it inherit them."""
    os.environ.update(values)
    try:
        yield
    finally:
        for name in values:
            del os.environ[name]


@contextmanager
def _without_main_script() -> Iterator[None]:
    """Hide the main script from multiprocessing, which would run it again in the child process."""
    main = sys.modules["__main__"]
    hidden = {name: getattr(main, name) for name in ("__file__", "__spec__") if hasattr(main, name)}
    main.__spec__ = None
    with suppress(AttributeError):
        del main.__file__
    try:
        yield
    finally:
        for name, value in hidden.items():
            setattr(main, name, value)


def _end_process(process: BaseProcess, patience: float) -> None:
    """Wait ``patience`` seconds for a process to end, then kill it."""
    if process.is_alive():
        process.join(timeout=patience)
    if process.is_alive():
        process.kill()
    process.join()


def _end_with_parent() -> None:
    """End this process when its parent has ended; runs in a thread."""
    parent = multiprocessing.parent_process()
    if parent is not None:
        parent.join()
        os._exit(1)


def _explain_exit(exit_code: int | None, stage: str, log: Path | None) -> tuple[Status, str]:
    """Return the status and the reason for a process that ended without an outcome."""
    see = "" if log is None else f"; see {log.name}"
    if exit_code is not None and exit_code < 0:
        name = signal.Signals(-exit_code).name
        if name == "SIGKILL":
            return "out-of-memory", f"killed by the system in stage {stage!r}, most likely for lack of memory"
        return "failed", f"the process died from {name} in stage {stage!r}{see}"
    return "failed", f"the process ended with exit code {exit_code} in stage {stage!r}{see}"


def _check_slots(slots: int) -> None:
    if slots < 1:
        raise ConfigError(f"the number of jobs must be at least 1, not {slots}", where="--jobs")


# Ray


@contextmanager
def connected(address: str) -> Iterator[Any]:
    """Connect to a Ray cluster and yield the module ``ray``; disconnect at the end.

    If this process is already connected, that connection is used and kept open.

    Args:
        address: ``HOST:PORT`` of the head, ``auto`` for the cluster that this machine belongs to, or ``local`` for a
            cluster that is started here and stopped at the end.

    Raises:
        ConfigError: if Ray is not installed, the address is not valid, or the cluster does not answer.
    """
    try:
        import ray
    except ImportError as error:
        raise ConfigError(
            f"Ray is not installed ({error})", where="--ray", hint="pip install 'landslide-zoo[ray]'"
        ) from error
    if ray.is_initialized():
        yield ray
        return
    _reach(address)
    try:
        ray.init(address=address, log_to_driver=False, logging_level=logging.ERROR)
    except (ConnectionError, RuntimeError, ValueError) as error:
        reason = first_line(error).rstrip(".")
        raise ConfigError(
            f"cannot use a Ray cluster at {address!r} ({reason})", where="--ray", hint=_RAY_HINT
        ) from error
    try:
        yield ray
    finally:
        ray.shutdown()


_RAY_HINT = "Start one with 'ray start --head' and pass the HOST:PORT that it prints, or auto on a node of the cluster"


def _reach(address: str) -> None:
    if address in ("auto", "local"):
        return
    host, colon, port = address.rpartition("://")[2].rpartition(":")
    if not colon or not host or not port.isdigit() or not 0 < int(port) < 65536:
        raise ConfigError(
            f"{address!r} is not the address of a cluster", where="--ray", hint=f"Write HOST:PORT. {_RAY_HINT}"
        )
    try:
        socket.create_connection((host.strip("[]"), int(port)), timeout=CONNECT_TIMEOUT_S).close()
    except OSError as error:
        reason = (error.strerror or str(error) or "no answer").lower()
        raise ConfigError(f"no answer from {address!r} ({reason})", where="--ray", hint=_RAY_HINT) from error


def smallest_node(ray: Any) -> int:
    """Return the number of processors of the smallest node that has processors.

    Raises:
        ConfigError: if no node has processors.
    """
    counts = [float(node["Resources"].get("CPU", 0.0)) for node in ray.nodes() if node["Alive"]]
    if not any(counts):
        raise ConfigError("no node of the cluster has a processor", where="--ray", hint="Add nodes with ray start")
    return max(1, math.floor(min(count for count in counts if count > 0)))


class RayExecutor(Generic[T]):
    """Executor that runs jobs on the nodes of a Ray cluster, each in a child process of the Ray worker.

    Data that a job reads by path must have the same path on every node. The folders and the log of a job are copied
    (:class:`Job`). A job whose node dies starts again from its beginning on another node.

    Args:
        address: address of the cluster; see :func:`connected`.
        slots: number of jobs at a time on the smallest node; a job takes that fraction of the node's processors.
        progress: called when a job reports progress.

    Raises:
        ConfigError: if ``slots`` is less than 1; on entering, as :func:`connected`.
    """

    def __init__(self, address: str, slots: int = 1, progress: JobProgress | None = None) -> None:
        _check_slots(slots)
        self.address = address
        self.slots = slots
        self._progress = progress
        self._stack = ExitStack()
        self._tasks: dict[Any, Job[T]] = {}

    def __enter__(self) -> Self:
        """Connect to the cluster."""
        ray = self._ray = self._stack.enter_context(connected(self.address))
        from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

        self._cpus = max(1, smallest_node(ray) // self.slots)
        local_node = NodeAffinitySchedulingStrategy(ray.get_runtime_context().get_node_id(), soft=True)
        self._board = ray.remote(_ProgressActor).options(num_cpus=0, scheduling_strategy=local_node).remote()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Cancel the tasks that are still running, and disconnect."""
        for reference in self._tasks:
            self._ray.cancel(reference, force=True)
        self._tasks.clear()
        self._stack.close()

    @property
    def free(self) -> bool:
        """Always true: the cluster queues jobs that do not fit."""
        return True

    def submit(self, job: Job[T]) -> None:
        """Submit a job to the cluster."""
        sent = {name: _read_files(folder) for name, folder in job.reads.items()}
        task = self._ray.remote(_run_on_node).options(
            num_cpus=self._cpus, num_gpus=job.gpus, max_retries=NODE_RETRIES, name=job.name
        )
        self._tasks[task.remote(replace(job, threads=self._cpus), sent, self._board)] = job

    def poll(self) -> list[tuple[Job[T], Outcome[T]]]:
        """Wait until a task ends, at most one second; return the jobs that ended."""
        ready, _ = self._ray.wait(list(self._tasks), num_returns=1, timeout=POLL_S)
        self._pass_on_progress()
        return [(self._tasks[one], self._collect(one, self._tasks.pop(one))) for one in ready]

    def _pass_on_progress(self) -> None:
        if self._progress is None:
            return
        by_name = {job.name: job for job in self._tasks.values()}
        try:
            updates = self._ray.get(self._board.take.remote(), timeout=10)
        except self._ray.exceptions.RayError:
            return
        for name, stage in updates.items():
            if name in by_name:
                self._progress(by_name[name], *stage)

    def _collect(self, reference: Any, job: Job[T]) -> Outcome[T]:
        try:
            outcome, written, log = self._ray.get(reference)
        except self._ray.exceptions.RayError as error:
            return Outcome("failed", None, f"the cluster lost the job: {first_line(error)}", argument=job.argument)
        if job.log is not None:
            _write_files(job.log.parent, {job.log.name: log})
        for name, files in written.items():
            _write_files(job.writes[name], files)
        found: Outcome[T] = outcome
        return found


class _ProgressActor:
    """Ray actor to which tasks write their progress and from which the head reads it."""

    def __init__(self) -> None:
        self._updates: dict[str, tuple[str, int, int]] = {}

    def note(self, name: str, stage: str, done: int, total: int) -> None:
        """Record the progress of a job."""
        self._updates[name] = (stage, done, total)

    def take(self) -> dict[str, tuple[str, int, int]]:
        """Return the progress recorded since the last call."""
        updates, self._updates = self._updates, {}
        return updates


def _run_on_node(
    job: Job[Any], sent: Mapping[str, _Files], board: Any
) -> tuple[Outcome[Any], dict[str, _Files], bytes]:
    """Run a job on a node; return its outcome, the files it wrote by folder, and its log."""
    root = Path(tempfile.mkdtemp(prefix="zoo-job-"))
    try:
        folders = {name: root / "folders" / name for name in job.folders}
        for name, files in sent.items():
            _write_files(folders[name], files)
        log = None if job.log is None else root / job.log.name
        local = replace(
            job,
            reads={name: folders[name] for name in job.reads},
            writes={name: folders[name] for name in job.writes},
            scratch={name: folders[name] for name in job.scratch},
            log=log,
        )
        notes: list[Any] = []

        def note(stage: str, done: int, total: int) -> None:
            notes[:] = [board.note.remote(job.name, stage, done, total)]

        outcome = run_job(local, note)
        if notes:
            # Progress is sent asynchronously: the last message must not arrive after the end of the task.
            import ray

            ray.wait(notes, timeout=10)
        written = {name: _read_files(folders[name]) for name in job.writes}
        return outcome, written, log.read_bytes() if log is not None and log.is_file() else b""
    finally:
        shutil.rmtree(root, ignore_errors=True)


def _read_files(folder: Path) -> _Files:
    """Return the files under a folder by relative path; empty if the folder does not exist."""
    return {
        path.relative_to(folder).as_posix(): path.read_bytes() for path in sorted(folder.rglob("*")) if path.is_file()
    }


def _write_files(folder: Path, files: _Files) -> None:
    """Write each file atomically. The bundle's description comes last, because it marks the bundle as complete."""
    for name in sorted(files, key=lambda name: name.endswith("bundle.json")):
        with atomic_path(folder / name) as temporary:
            temporary.write_bytes(files[name])
