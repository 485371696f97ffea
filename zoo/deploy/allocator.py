"""glibc's allocator: keep large tensors on the heap instead of mapping new memory at every operation.

Importing zoo never changes the allocator. The command line does so in its own processes, and a library user may.
"""

from __future__ import annotations

import ctypes
import sys

_M_TRIM_THRESHOLD, _M_MMAP_THRESHOLD = -1, -3
THRESHOLD = 2**31 - 1
"""Bytes; the largest value that ``mallopt`` accepts."""

_raised = False


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
    if not (mallopt(_M_MMAP_THRESHOLD, THRESHOLD) and mallopt(_M_TRIM_THRESHOLD, THRESHOLD)):
        return "glibc refused to raise its thresholds"
    global _raised
    _raised = True
    return None


def thresholds_are_raised() -> bool:
    """Return whether this process raised the thresholds; another form of a model may then be the fastest."""
    return _raised
