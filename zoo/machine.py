"""This machine: how busy it is, how threads should wait, how much memory there is, and glibc's allocator.

GNU OpenMP, which computes for torch on Linux, lets a thread that waits for the others spin for milliseconds. On a quiet
machine that is fastest. Where other programs want the same cores, a spinning thread keeps the thread that it waits for
from running: ``benchmarks/busy.py`` measures both. OpenMP reads its variables when torch is imported, so the choice
is made before. This module imports neither torch nor numpy.

Importing zoo never changes the allocator. The command line does so in its own processes, and a library user may.
"""

from __future__ import annotations

import ctypes
import os
import sys
import time
from pathlib import Path

SAMPLE_S = 0.1
"""Seconds in which the use of the cores is measured; the kernel counts in steps of 0.01 s."""

BUSY_CORES = 0.5
"""Other programs that keep more than this many cores busy slow down a process that uses every core [O]."""

ALLOCATOR_BYTES = 2**31 - 1
"""Size of blocks up to which memory stays with the process; the largest value that ``mallopt`` accepts."""

_M_TRIM_THRESHOLD, _M_MMAP_THRESHOLD = -1, -3
_raised = False
_CHOSEN_BY_USER = ("OMP_WAIT_POLICY", "GOMP_SPINCOUNT")


def available_cores() -> int:
    """Return the number of cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def cores_in_use(seconds: float = SAMPLE_S) -> float | None:
    """Measure how many of the cores that this process may use are kept busy by other programs.

    This process sleeps meanwhile; its threads and child processes count as other programs.

    Args:
        seconds: length of the measurement.

    Returns:
        A number from 0 to :func:`available_cores`; ``None`` where the system does not report it (Linux does).
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
    """Return the time that the cores of this process were busy, and all their time, in ticks of the kernel."""
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
    """Return whether other programs slow down a process that uses every core; false where it is unknown."""
    return in_use is not None and in_use > BUSY_CORES


def waiting_variables(in_use: float | None = None) -> dict[str, str]:
    """Return environment variables for a new process: on a busy machine, its threads sleep while they wait.

    Args:
        in_use: what :func:`cores_in_use` returned; ``None`` measures now.

    Returns:
        ``OMP_WAIT_POLICY=passive`` on a busy machine. Nothing on a quiet one, where the user has chosen already
        (``OMP_WAIT_POLICY``, ``GOMP_SPINCOUNT``), or where the process has one thread.
    """
    if any(name in os.environ for name in _CHOSEN_BY_USER) or os.environ.get("OMP_NUM_THREADS") == "1":
        return {}
    return {"OMP_WAIT_POLICY": "passive"} if is_busy(cores_in_use() if in_use is None else in_use) else {}


def describe_use(in_use: float) -> str:
    """Return how many cores other programs use, in words."""
    return f"other programs use {in_use:.1f} of {available_cores()} cores"


def memory_bytes() -> int:
    """Return the size of this machine's memory; 8 GiB where the system does not report it."""
    try:
        return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    except (AttributeError, ValueError, OSError):
        return 2**33


def raise_allocator_thresholds() -> str | None:
    """Raise ``M_MMAP_THRESHOLD`` and ``M_TRIM_THRESHOLD`` of this process to their largest value.

    glibc maps every block above 32 MiB separately and returns it to the kernel when it is freed, so each operation on a
    large tensor waits for new zeroed pages. With the thresholds raised, freed blocks are reused. Results are the same
    bit by bit. The cost: the process keeps the memory of its peak until it ends.

    Returns:
        ``None`` if it was done, otherwise the reason why not.
    """
    if not sys.platform.startswith("linux"):
        return f"the allocator of {sys.platform} has no such thresholds"
    library = ctypes.CDLL(None)
    try:
        # musl has no mallopt; another allocator that is loaded first may have one without these thresholds.
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
    """Return whether this process raised the thresholds; another form of a model may then be the fastest."""
    return _raised
