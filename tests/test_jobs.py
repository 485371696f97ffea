"""A cluster that cannot be used is told in one line."""

from __future__ import annotations

import builtins
import socket

import pytest

from zoo.errors import ConfigError
from zoo.jobs import connected


@pytest.mark.parametrize("address", ["", "nonsense", "host:", ":6379", "host:port", "host:99999", "ray://host"])
def test_an_address_that_is_none_is_refused(address: str) -> None:
    pytest.importorskip("ray")
    with pytest.raises(ConfigError, match="is no address of a cluster"), connected(address):
        pytest.fail("connected")


def test_nobody_at_the_address_is_told_at_once() -> None:
    pytest.importorskip("ray")
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
    with pytest.raises(ConfigError, match="nobody answers at"), connected(f"127.0.0.1:{port}"):
        pytest.fail("connected")


def test_a_missing_extra_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    real = builtins.__import__

    def without_ray(name: str, *rest: object, **more: object) -> object:
        if name == "ray":
            raise ImportError("No module named 'ray'")
        return real(name, *rest, **more)  # type: ignore[arg-type]

    monkeypatch.setattr(builtins, "__import__", without_ray)
    with pytest.raises(ConfigError, match=r"landslide-zoo\[ray\]"), connected("auto"):
        pytest.fail("connected")
