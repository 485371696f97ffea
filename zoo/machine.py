"""This machine: CPU load, waiting policy of threads, memory size, and glibc's allocator.

GNU OpenMP, which torch uses on Linux, lets a thread that waits for the others spin for milliseconds. On an idle machine
that is fastest. If other programs use the same cores, a spinning thread delays the thread that it waits for;
``benchmarks/busy.py`` measures both cases. OpenMP reads its variables when torch is imported, so the policy must be
chosen before. This module imports neither torch nor numpy.

Importing zoo never changes the allocator. The command line changes it in its own processes, and a library user may.
"""

from __future__ import annotations

import ctypes
import os
import sys
import time
from pathlib import Path

SAMPLE_S = 0.1
"""Duration in seconds of the measurement of CPU use; the kernel counts in steps of 0.01 s."""

BUSY_CORES = 0.5
"""Other programs that keep more than this many cores busy slow down a process that uses every core [O]."""

ALLOCATOR_BYTES = 2**31 - 1
"""Size in bytes up to which freed blocks stay with the process; the largest value that ``mallopt`` accepts."""

_M_TRIM_THRESHOLD, _M_MMAP_THRESHOLD = -1, -3
_raised = False
_CHOSEN_BY_USER = ("OMP_WAIT_POLICY", "GOMP_SPINCOUNT")


def available_cores() -> int:
    """Return the number of cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def cores_in_use(seconds: float = SAMPLE_S) -> float | None:
    """Measure how many of the cores available to this process other programs keep busy.

    This process sleeps during the measurement; its threads and child processes count as other programs.

    Args:
        seconds: duration of the measurement.

    Returns:
        A number from 0 to :func:`available_cores`; ``None`` if the system does not report it (Linux does).
    """
    before = _ticks()
    if before is None:
        return None
    time.sleep(seconds)
    after = _ticks()
    if after is None or after[1] == before[1]:
        return None
    return available_cores() * (after[0] - before[0]) / (after[1] - before[1])


def _ticks() -> tuple[int, int] | None:
    """Return the busy time and the total time of the cores of this process, in kernel ticks."""
    try:
        names = {f"cpu{number}" for number in os.sched_getaffinity(0)}
        lines = Path("/proc/stat").read_text(encoding="ascii").splitlines()
    except (AttributeError, OSError):
        return None
    # user, nice, system, idle, iowait, irq, softirq, steal [S: proc(5)]
    rows = [[int(number) for number in line.split()[1:9]] for line in lines if line.partition(" ")[0] in names]
    total = sum(map(sum, rows))
    return total - sum(row[3] + row[4] for row in rows), total


def is_busy(in_use: float | None) -> bool:
    """Return whether other programs slow down a process that uses every core; false if it is unknown."""
    return in_use is not None and in_use > BUSY_CORES


def waiting_variables(in_use: float | None = None) -> dict[str, str]:
    """Return environment variables for a new process: on a busy machine, its threads sleep while they wait.

    Args:
        in_use: return value of :func:`cores_in_use`; ``None`` measures now.

    Returns:
        ``OMP_WAIT_POLICY=passive`` on a busy machine. Empty on an idle one, if the user has already set
        ``OMP_WAIT_POLICY`` or ``GOMP_SPINCOUNT``, or if the process has one thread.
    """
    if any(name in os.environ for name in _CHOSEN_BY_USER) or os.environ.get("OMP_NUM_THREADS") == "1":
        return {}
    return {"OMP_WAIT_POLICY": "passive"} if is_busy(cores_in_use() if in_use is None else in_use) else {}


def describe_use(in_use: float) -> str:
    """Return how many cores other programs use, in words."""
    return f"other programs use {in_use:.1f} of {available_cores()} cores"


def memory_bytes() -> int:
    """Return the memory size of this machine in bytes; 8 GiB if the system does not report it."""
    try:
        return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    except (AttributeError, ValueError, OSError):
        return 2**33


def raise_allocator_thresholds() -> str | None:
    """Raise ``M_MMAP_THRESHOLD`` and ``M_TRIM_THRESHOLD`` of this process to their maximum.

    glibc maps every block above 32 MiB separately and returns it to the kernel when it is freed, so each operation on a
    large tensor waits for new zeroed pages. With higher thresholds, freed blocks are reused. Results are bit-identical.
    The cost: the process keeps its peak memory until it ends.

    Returns:
        ``None`` on success, otherwise the reason for the failure.
    """
    if not sys.platform.startswith("linux"):
        return f"the allocator of {sys.platform} has no such thresholds"
    library = ctypes.CDLL(None)
    try:
        # musl has no mallopt; a preloaded allocator may have one without these thresholds.
        library.gnu_get_libc_version.restype = ctypes.c_char_p
        mallopt = library.mallopt
    except AttributeError:
        return "the C library is not glibc, which has these thresholds"
    mallopt.argtypes, mallopt.restype = (ctypes.c_int, ctypes.c_int), ctypes.c_int
    if not (mallopt(_M_MMAP_THRESHOLD, ALLOCATOR_BYTES) and mallopt(_M_TRIM_THRESHOLD, ALLOCATOR_BYTES)):
        return "glibc refused to raise its thresholds"
    global _raised
    _raised = True
    return None


def thresholds_are_raised() -> bool:
    """Return whether this process raised the thresholds; this can change which form of a model is fastest."""
    return _raised
