"""A network that refuses every connection and remembers who asked."""

from __future__ import annotations

import socket
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any
from unittest.mock import patch


class NetworkRefusedError(OSError):
    """A connection was attempted where none may be made."""


@contextmanager
def no_network() -> Iterator[list[str]]:
    """Refuse connections and name look-ups inside the block, where nobody sleeps: retries need not wait.

    Yields:
        A list that receives every refused destination, also when the caller swallows the error.
    """
    refused: list[str] = []

    def refuse(*destination: Any, **_: Any) -> Any:
        refused.append(" ".join(str(part) for part in destination if isinstance(part, (str, int, tuple))))
        raise NetworkRefusedError("no network here")

    with (
        patch.object(socket, "getaddrinfo", refuse),
        patch.object(socket, "create_connection", refuse),
        patch.object(socket.socket, "connect", refuse),
        patch.object(socket.socket, "connect_ex", refuse),
        patch.object(time, "sleep", lambda seconds: None),
    ):
        yield refused
