"""A page of unusual results, and a browser that opens it."""

from __future__ import annotations

import itertools
import json
import os
import shutil
import subprocess
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.bench.conftest import finished
from tests.conftest import PATIENCE_S
from zoo.bench.config import TrialConfig
from zoo.bench.leaderboard import make_leaderboards
from zoo.bench.page import document
from zoo.bench.results import TrialResult, load_results
from zoo.bench.samples import Pictures, Samples, jpeg, pack
from zoo.errors import ZooError
from zoo.schema import to_plain

EVIL = "<script>window.hacked = 1</script>\"'><img src=x onerror='window.hacked = 2'>"
SHAPE = (10, 10)
CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
FLAGS = (
    "--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-sync",
    "--disable-background-networking", "--disable-component-update", "--disable-dev-shm-usage",
    "--remote-debugging-pipe",
)  # fmt: skip


def with_samples(values: dict[str, Any], tp: int) -> dict[str, Any]:
    """Measurements of a trial with predictions and pictures: forty landslide pixels in the first of two patches."""
    truth = np.zeros((2, *SHAPE), bool)
    truth[0].reshape(-1)[:40] = True
    predicted = np.zeros((2, *SHAPE), bool)
    predicted[0].reshape(-1)[40 - tp : 50] = True
    values["samples"] = to_plain(Samples((1, 0), tuple(map(pack, predicted[::-1]))))
    image = np.random.default_rng(0).random((*SHAPE, 3)).astype(np.float32)
    names, bands, ignored = ("b", EVIL), ("red", "green", EVIL), np.zeros(SHAPE, bool)
    truths = tuple(map(pack, truth[::-1]))
    pictures = Pictures((1, 0), names, bands, SHAPE, (jpeg(image),) * 2, truths, (pack(ignored),) * 2)
    values["pictures"] = to_plain(pictures)
    return values


@pytest.fixture
def results_folder(tmp_path: Path, trial: Callable[..., TrialConfig], measured: Callable[..., dict[str, Any]]) -> Path:
    """Result files of four models, of which one failed and one has no pictures, on two recipes."""
    folder = tmp_path / "results & <b>more</b>"
    for seed in (0, 1):
        for model, tp, seconds in (("unet", 30, 0.02), ("segnet", 20, 0.04), ("mobilenetv2", 36, 0.01)):
            values = with_samples(measured(tp, seconds=seconds), tp)
            if model == "segnet":
                del values["samples"]
            finished(trial(model, seed=seed), values).save(folder)
    TrialResult(trial("deeplabv3plus"), "failed", f"RuntimeError: {EVIL}").save(folder)
    odd = measured(30)
    odd["data"] |= {"split_notes": [EVIL], "pixel_size": 10.0}
    odd["environment"]["device_name"] = EVIL
    del odd["speed"], odd["test"]["objects"], odd["test"]["odds"], odd["val"]["odds"]
    naming = {"title": EVIL, "benchmark": "table3", "setting": "region", "paper": "table3", "baseline": EVIL}
    config = trial("unet", fingerprints={"train": "a", "val": "b", "test": "c"}, **naming)
    finished(config, odd).save(folder)
    return folder


@pytest.fixture
def page(results_folder: Path) -> str:
    """The page of the unusual results."""
    results, problems = load_results(results_folder)
    assert not problems
    return render_page(results, results_folder)


def render_page(
    results: Sequence[TrialResult], folder: Path, problems: Sequence[ZooError] = (), baseline: str | None = None
) -> str:
    """Render the page of some results."""
    return document.render_page(make_leaderboards(results, baseline), folder, problems)


@dataclass
class Tab:
    """A page in a headless browser, spoken to through its debugging pipe.

    Attributes:
        events: all that it told, by method.
    """

    send: int
    receive: int
    events: list[dict[str, Any]] = field(default_factory=list)
    session: str | None = None
    numbers: Iterator[int] = field(default_factory=lambda: itertools.count(1))
    rest: bytes = b""

    def command(self, method: str, **parameters: Any) -> dict[str, Any]:
        """Send a command and wait for its answer."""
        number = next(self.numbers)
        message: dict[str, Any] = {"id": number, "method": method, "params": parameters}
        if self.session is not None:
            message["sessionId"] = self.session
        os.write(self.send, json.dumps(message).encode() + b"\0")
        while (answer := self._next()).get("id") != number:
            self.events.append(answer)
        assert "error" not in answer, answer
        return answer["result"]

    def open(self, url: str) -> None:
        """Load a page and wait until it is there."""
        self.events.clear()
        self.command("Page.navigate", url=url)
        while not any(event["method"] == "Page.loadEventFired" for event in self.events):
            self.events.append(self._next())

    def run(self, script: str) -> Any:
        """The value of an expression on the page."""
        answer = self.command("Runtime.evaluate", expression=script, returnByValue=True)
        assert "exceptionDetails" not in answer, answer
        return answer["result"].get("value")

    def told(self, *methods: str) -> list[dict[str, Any]]:
        """Parameters of all events of these methods."""
        return [event["params"] for event in self.events if event.get("method") in methods]

    def _next(self) -> dict[str, Any]:
        while b"\0" not in self.rest:
            part = os.read(self.receive, 1 << 20)
            assert part, "the browser went away"
            self.rest += part
        line, _, self.rest = self.rest.partition(b"\0")
        message: dict[str, Any] = json.loads(line)
        return message


def start(profile: Path) -> tuple[subprocess.Popen[bytes], Tab]:
    """Start a browser with a profile of its own."""
    assert CHROMIUM is not None
    child_reads, we_write = os.pipe()
    we_read, child_writes = os.pipe()

    def arrange() -> None:
        reads, writes = os.dup(child_reads), os.dup(child_writes)
        os.dup2(reads, 3)
        os.dup2(writes, 4)

    process = subprocess.Popen(
        [CHROMIUM, *FLAGS, f"--user-data-dir={profile}", "about:blank"],
        preexec_fn=arrange, pass_fds=(3, 4), stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
    )  # fmt: skip
    os.close(child_reads)
    os.close(child_writes)
    tab = Tab(we_write, we_read)
    target = tab.command("Target.createTarget", url="about:blank")["targetId"]
    tab.session = tab.command("Target.attachToTarget", targetId=target, flatten=True)["sessionId"]
    for domain in ("Page", "Runtime", "Log", "Network"):
        tab.command(f"{domain}.enable")
    return process, tab


@pytest.fixture(scope="module")
def tab(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Tab]:
    """A headless browser; the test is skipped, visibly, where there is none."""
    if CHROMIUM is None:
        pytest.skip("no Chromium on this machine")
    process, tab = start(tmp_path_factory.mktemp("profile"))
    yield tab
    process.terminate()
    process.wait(timeout=PATIENCE_S)
    os.close(tab.send)
    os.close(tab.receive)
