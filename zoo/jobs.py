"""Work that takes long: how its progress is reported, and connections to Ray clusters. Ray is imported on first use."""

from __future__ import annotations

import logging
import socket
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, TypeAlias

from zoo.errors import ConfigError

ProgressCallback: TypeAlias = Callable[[int, int], None]
"""Called with the number of items done and the number of all items."""

REACH_S = 5.0
"""Seconds in which a cluster's head has to answer: Ray itself would try for minutes."""


@contextmanager
def connected(address: str) -> Iterator[Any]:
    """Connect to the Ray cluster at ``address`` and give the module ``ray``; disconnect in the end.

    Where this process is connected already, that connection is used and kept.

    Args:
        address: ``HOST:PORT`` of the head, ``auto`` for the cluster that this machine belongs to, or ``local`` for one
            that is made here and goes in the end.

    Raises:
        ConfigError: if Ray is not installed, the address is none, or nobody answers there.
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
        lines = str(error).strip().splitlines() or [type(error).__name__]
        raise ConfigError(
            f"no Ray cluster can be used at {address!r} ({lines[0].rstrip('.')})", where="--ray", hint=_HINT
        ) from error
    try:
        yield ray
    finally:
        ray.shutdown()


_HINT = "Start one with 'ray start --head' and pass the HOST:PORT that it prints, or auto on a node of the cluster"


def _reach(address: str) -> None:
    if address in ("auto", "local"):
        return
    host, colon, port = address.rpartition("://")[2].rpartition(":")
    if not colon or not host or not port.isdigit() or not 0 < int(port) < 65536:
        raise ConfigError(f"{address!r} is no address of a cluster", where="--ray", hint=f"Write HOST:PORT. {_HINT}")
    try:
        socket.create_connection((host.strip("[]"), int(port)), timeout=REACH_S).close()
    except OSError as error:
        reason = (error.strerror or str(error) or "no answer").lower()
        raise ConfigError(f"nobody answers at {address!r} ({reason})", where="--ray", hint=_HINT) from error
