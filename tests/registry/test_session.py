"""Models that a session registers by itself."""

from __future__ import annotations

import subprocess
import sys
import textwrap
from collections.abc import Iterator
from pathlib import Path

import pytest
from torch import nn

import zoo
from zoo.errors import PluginError, UnknownNameError
from zoo.registry import Flag, catalogue, provider_of, reload, session


@pytest.fixture(autouse=True)
def _forget(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setattr(session, "_registered", {})
    monkeypatch.setenv("ZOO_SESSION_MODELS", "{}")
    reload()
    yield
    reload()


class Made(nn.Module):
    def __init__(self, text: str) -> None:
        super().__init__()
        self.text = text


def build(in_channels: int = 7, classes: int = 2, *, width: int = 4) -> Made:
    """Build a network.

    Args:
        width: its width.
    """
    return Made(f"{in_channels}-{classes}-{width}")


def test_a_model_is_registered_by_a_decorator() -> None:
    assert zoo.register_model("my_net", minimum_size=16, flags=["exportable"])(build) is build
    assert "my_net" in zoo.list_models()
    assert zoo.create_model("my_net", width="8").text == "7-2-8"
    spec = catalogue().models.get("my_net")
    assert (spec.summary, spec.flags, spec.minimum_size) == ("Build a network.", {Flag.EXPORTABLE}, 16)
    assert [option.name for option in spec.options] == ["width"]
    assert provider_of("model", "my_net").plugin == "this session"
    reload()
    assert zoo.create_model("my_net").text == "7-2-4"


def test_duplicates_are_refused_unless_the_session_replaces_its_own() -> None:
    zoo.register_model("my_net")(build)
    with pytest.raises(PluginError, match="already registered by this session"):
        zoo.register_model("my_net")(build)
    zoo.register_model("my_net", replace=True)(build)
    with pytest.raises(PluginError, match="already registered by landslide-zoo/models"):
        zoo.register_model("unet", replace=True)(build)
    with pytest.raises(UnknownNameError, match="Did you mean 'exportable'"):
        zoo.register_model("other", flags=["exportible"])(build)


def test_a_child_process_finds_what_it_can_import(tmp_path: Path) -> None:
    """A class in a file works in the processes of a benchmark; one of the main script is refused with a reason."""
    (tmp_path / "my_nets.py").write_text(
        "from torch import nn\n"
        "class Net(nn.Conv2d):\n"
        "    def __init__(self, in_channels=7, classes=2):\n"
        "        super().__init__(in_channels, classes, 1)\n"
    )
    (tmp_path / "jobs_of_test.py").write_text(
        "import zoo\ndef count(name, work):\n    return sum(p.numel() for p in zoo.create_model(name).parameters())\n"
    )
    script = tmp_path / "script.py"
    script.write_text(
        textwrap.dedent(
            """
            import zoo, my_nets
            from zoo.jobs import Job, run_job
            run_job(Job("jobs_of_test:count", "unet")).unwrap()
            zoo.register_model("imported")(my_nets.Net)
            @zoo.register_model("written_here")
            class Net(my_nets.Net): ...
            print(run_job(Job("jobs_of_test:count", "imported")).unwrap())
            print(run_job(Job("jobs_of_test:count", "written_here")).error)
            """
        )
    )
    done = subprocess.run([sys.executable, script], capture_output=True, text=True, env=None, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    first, second = done.stdout.splitlines()
    assert first == "16"
    assert "defined in a notebook or script" in second
