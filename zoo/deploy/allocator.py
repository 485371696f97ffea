"""glibc's allocator: keep large tensors on the heap instead of mapping and page-faulting them anew at every operation.

Nothing here runs by importing zoo; the command line asks for it, and a library user may.
"""

from __future__ import annotations

import ctypes
import sys

_M_TRIM_THRESHOLD, _M_MMAP_THRESHOLD = -1, -3
THRESHOLD = 2**31 - 1
"""Bytes; the largest that ``mallopt`` takes."""

_raised = False


def raise_allocator_thresholds() -> str | None:
    """Raise ``M_MMAP_THRESHOLD`` and ``M_TRIM_THRESHOLD`` of this process, as far as they go.

    glibc maps every block above 32 MiB separately and gives it back when it is freed, so that each operation on a
    large tensor waits for the kernel to hand out zeroed pages. With the thresholds raised they are used again. Results
    are the same bit by bit; what it costs is that the process keeps the memory of its peak until it ends.

    Returns:
        ``None`` when it was done, otherwise why it was not.
    """
    if not sys.platform.startswith("linux"):
        return f"the allocator of {sys.platform} has no such thresholds"
    library = ctypes.CDLL(None)
    try:
        # musl has mallopt in no version, other allocators that are loaded first may.
        library.gnu_get_libc_version.restype = ctypes.c_char_p
        mallopt = library.mallopt
    except AttributeError:
        return "the C library is not glibc, whose thresholds these are"
    mallopt.argtypes, mallopt.restype = (ctypes.c_int, ctypes.c_int), ctypes.c_int
    if not (mallopt(_M_MMAP_THRESHOLD, THRESHOLD) and mallopt(_M_TRIM_THRESHOLD, THRESHOLD)):
        return "glibc refused to raise its thresholds"
    global _raised
    _raised = True
    return None


def thresholds_are_raised() -> bool:
    """Whether this process raised them: another form may be the fastest then."""
    return _raised
