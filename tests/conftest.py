"""Fixtures that several folders of tests share."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import sysconfig
import textwrap
import venv
from collections.abc import Callable, Iterator
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, settings

REPOSITORY = Path(__file__).parents[1]
SHARED_DATA = REPOSITORY.parent / "shared" / "data"
ZOO = str(Path(sys.executable).with_name("zoo"))
PATIENCE_S = 300
"""Time limit in seconds for work that takes seconds; only a hang takes longer, also on a slow machine."""
NIGHTLY = os.environ.get("ZOO_NIGHTLY") == "1"
_PIP = [sys.executable, "-m", "pip", "--quiet", "--disable-pip-version-check"]
COMMAND_TIMEOUT_S = 3 * 3600 if NIGHTLY else 900

RAY_HEAD = {
    "num_cpus": 0,
    "include_dashboard": False,
    "_system_config": {
        "health_check_initial_delay_ms": 0, "health_check_period_ms": 500, "health_check_failure_threshold": 4,
        "worker_niceness": 0,
    },
}  # fmt: skip
"""Arguments of a Ray head that runs no work itself, and notices within seconds that a node died.

At Ray's own niceness of 15 its workers wait for minutes while other tests keep the processors busy."""

# A slow machine is no failure.
settings.register_profile("zoo", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("zoo")


@pytest.fixture
def shared_data() -> Path:
    """The real data next to the checkout; the test is skipped visibly if they are absent."""
    if not SHARED_DATA.is_dir():
        pytest.skip("the real data of ../shared/data are not on this machine")
    return SHARED_DATA


@pytest.fixture(autouse=True)
def private_cache(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> None:
    """Tests share one cache, which is not the user's."""
    monkeypatch.setenv("ZOO_CACHE", str(tmp_path_factory.getbasetemp() / "zoo-cache"))
    monkeypatch.setenv("ZOO_CONFIG", str(tmp_path_factory.getbasetemp() / "zoo-config"))


@pytest.fixture(autouse=True)
def same_random_numbers() -> None:
    """Each test draws what it would draw alone, whichever tests were there before it."""
    if "torch" in sys.modules:
        sys.modules["torch"].manual_seed(0)


def write_distribution(folder: Path, name: str, code: str) -> None:
    """A distribution of one module with one entry point, as pip would leave it in ``folder``."""
    module = name.replace("-", "_")
    (folder / f"{module}.py").write_text(textwrap.dedent(code))
    info = folder / f"{module}-1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text(f"[zoo]\nmain = {module}\n")
    sys.modules.pop(module, None)


@pytest.fixture
def install(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[str, str], None]:
    """Install a plugin, by name and code, for this process and those that it starts."""
    folder = tmp_path / "site"
    folder.mkdir()
    monkeypatch.syspath_prepend(str(folder))
    monkeypatch.setenv("PYTHONPATH", str(folder))
    return lambda name, code: write_distribution(folder, name, code)


def pip_install(folder: Path, *sources: object) -> str:
    """Install distributions from this machine into ``folder``, without dependencies; return it for ``PYTHONPATH``."""
    here = ["install", "--no-deps", "--no-build-isolation", "--no-index", "--target", folder]
    subprocess.run([*_PIP, *map(str, [*here, *sources])], check=True, timeout=PATIENCE_S)
    return str(folder)


@pytest.fixture(scope="session")
def plugin_site(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], str]:
    """Install a plugin of this repository where nothing else sees it; return the folder for ``PYTHONPATH``."""
    return cache(lambda name: pip_install(tmp_path_factory.mktemp(name), REPOSITORY / "plugins" / name))


class Environment:
    """A virtual environment without pip, filled from outside."""

    def __init__(self, folder: Path) -> None:
        venv.create(folder, with_pip=False, symlinks=True)
        self.python = folder / "bin" / "python"
        self.site = Path(sysconfig.get_path("purelib", vars={"base": str(folder), "platbase": str(folder)}))

    def see_packages_outside(self) -> None:
        """Import from the environment that runs the tests what is not installed here."""
        outside = dict.fromkeys([sysconfig.get_path("purelib"), sysconfig.get_path("platlib")])
        lines = [f"import site; site.addsitedir({place!r})" for place in outside]
        (self.site / "outside.pth").write_text("\n".join([*lines, str(REPOSITORY)]) + "\n")

    def install(self, *sources: Path) -> None:
        """pip install into it without dependencies; wheels are built here, where the build backend is."""
        wheels = self.site.parents[2] / "wheels"
        build = ["wheel", "--no-deps", "--no-build-isolation", "--no-index", "--wheel-dir", str(wheels)]
        subprocess.run([*_PIP, *build, *map(str, sources)], check=True, timeout=PATIENCE_S)
        self._pip("install", "--no-deps", "--no-index", *map(str, wheels.glob("*.whl")))

    def install_editable(self, *sources: Path) -> None:
        """pip install --editable into it without dependencies; it must see the build backend outside."""
        named = [word for source in sources for word in ("--editable", str(source))]
        self._pip("install", "--no-deps", "--no-index", "--no-build-isolation", *named)

    def _pip(self, *arguments: str) -> None:
        subprocess.run([*_PIP, "--python", str(self.python), *arguments], check=True, timeout=PATIENCE_S)

    def run(self, *command: str, cwd: Path, **environment: str) -> subprocess.CompletedProcess[str]:
        """Run a program of the environment, such as ``python`` or ``zoo``, or one of the system."""
        inherited = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
        path = os.pathsep.join([str(self.python.parent), os.environ["PATH"]])
        return subprocess.run(
            [str(self.python) if command[0] == "python" else command[0], *command[1:]],
            cwd=cwd,
            env={**inherited, "PATH": path, **environment},
            capture_output=True,
            text=True,
            timeout=COMMAND_TIMEOUT_S,
        )


def _run(arguments: tuple[object, ...], folder: Path, environment: dict[str, str]) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        list(map(str, arguments)),
        cwd=folder,
        env={**os.environ, **environment},
        capture_output=True,
        text=True,
        timeout=COMMAND_TIMEOUT_S,
    )


@pytest.fixture
def python(tmp_path: Path) -> Callable[..., subprocess.CompletedProcess[str]]:
    """Run Python in a folder of its own."""

    def run(*arguments: object, check: bool = False, **environment: str) -> subprocess.CompletedProcess[str]:
        done = _run((sys.executable, *arguments), tmp_path, environment)
        assert not check or done.returncode == 0, done.stdout + done.stderr
        return done

    return run


class PreparedProcess:
    """A process with zoo and its libraries imported, which runs the command ``zoo`` in copies of itself."""

    def __init__(self, folder: Path) -> None:
        self._folder, self._process = folder, None

    def run(
        self, arguments: tuple[object, ...], folder: Path, environment: dict[str, str]
    ) -> subprocess.CompletedProcess[str]:
        """Run ``zoo`` with ``arguments`` in ``folder``; ``environment`` is added to the variables of the tests."""
        if self._process is None:
            command = [sys.executable, Path(__file__).with_name("prepared.py")]
            own = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}  # no test's plugins
            self._process = subprocess.Popen(
                command, cwd=REPOSITORY, env=own, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
            )
        words = list(map(str, arguments))
        out, error = self._folder / "out", self._folder / "error"
        asked = {
            "arguments": words,
            "folder": str(folder),
            "environment": {**os.environ, **environment},
            "out": str(out),
            "error": str(error),
            "seconds": COMMAND_TIMEOUT_S,
        }
        self._process.stdin.write(json.dumps(asked) + "\n")
        self._process.stdin.flush()
        code = int(self._process.stdout.readline())
        said = [path.read_text() for path in (out, error)]
        for path in (out, error):
            path.unlink()
        return subprocess.CompletedProcess(["zoo", *words], code, *said)

    def close(self) -> None:
        """End the process."""
        if self._process is not None:
            self._process.stdin.close()
            self._process.wait(PATIENCE_S)


@pytest.fixture(scope="session")
def prepared_process(tmp_path_factory: pytest.TempPathFactory) -> Iterator[PreparedProcess]:
    """The process that runs most commands of the tests, because importing torch takes seconds."""
    process = PreparedProcess(tmp_path_factory.mktemp("prepared"))
    yield process
    process.close()


@pytest.fixture
def zoo(tmp_path: Path, prepared_process: PreparedProcess) -> Callable[..., subprocess.CompletedProcess[str]]:
    """Run the command ``zoo`` in a folder of its own.

    With environment variables that libraries may read when they are imported, it starts in a new process, as a user's
    would; otherwise in a copy of one that has imported them.
    """

    def run(*arguments: object, check: bool = False, **environment: str) -> subprocess.CompletedProcess[str]:
        ours = all(name == "PYTHONPATH" or name.startswith("ZOO_") for name in environment)
        done = (
            prepared_process.run(arguments, tmp_path, environment)
            if ours
            else _run((ZOO, *arguments), tmp_path, environment)
        )
        assert not check or done.returncode == 0, done.stdout + done.stderr
        return done

    return run


@pytest.fixture
def start_session() -> Callable[..., subprocess.Popen[str]]:
    """Start a process as the head of a session of its own, so that a signal can be sent to it and its children.

    Where the tests themselves run in the background, a shell has told them to ignore Ctrl-C, and children inherit that.
    """

    def start(*command: object, **options: Any) -> subprocess.Popen[str]:
        return subprocess.Popen(
            list(map(str, command)),
            start_new_session=True,
            text=True,
            preexec_fn=lambda: signal.signal(signal.SIGINT, signal.default_int_handler),
            **options,
        )

    return start


def write_patches(folder: Path, *, bands: int = 3, size: int = 32, count: int = 24, seed: int = 0) -> Path:
    """A folder of patches with landslides that any model can find: bright ellipses in three scenes."""
    rng = np.random.default_rng(seed)
    (folder / "images").mkdir(parents=True)
    (folder / "masks").mkdir()
    y, x = np.mgrid[:size, :size]
    lines = ["tile,scene,row,col"]
    for index in range(count):
        cy, cx = rng.uniform(size * 0.25, size * 0.75, 2)
        ry, rx = rng.uniform(size * 0.1, size * 0.3, 2)
        mask = ((y - cy) / ry) ** 2 + ((x - cx) / rx) ** 2 < 1
        image = rng.normal(0, 1, (bands, size, size)) + 2.0 * mask
        np.save(folder / "images" / f"p{index:03}.npy", image.astype(np.float32))
        np.save(folder / "masks" / f"p{index:03}.npy", mask.astype(np.uint8))
        lines.append(f"p{index:03}.npy,s{index % 3},{index // 3 // 4},{index // 3 % 4}")
    (folder / "tiles.csv").write_text("\n".join(lines) + "\n")
    return folder


@pytest.fixture(scope="session")
def patches(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Twenty-four patches of 3x32x32 in three scenes, ``s0`` to ``s2``."""
    return write_patches(tmp_path_factory.mktemp("data") / "patches")


@pytest.fixture(scope="session")
def trained_bundle(patches: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the bundle of a small U-Net that finds the ellipses of ``patches``; tests copy it to change it."""
    from zoo.bench.config import TrialConfig
    from zoo.bench.runner import TrialTask
    from zoo.bench.trial import run_trial
    from zoo.datasets.base import SPLITS
    from zoo.datasets.source import DataSource
    from zoo.jobs import Work
    from zoo.training.recipes import get_recipe

    folder = tmp_path_factory.mktemp("trained")
    source = DataSource("folder", {"root": str(patches), "group_column": "scene"})
    fingerprints = {split: source.open(split).fingerprint() for split in SPLITS}
    recipe = get_recipe("quick").changed(steps=60, batch_size=8, crop=32, precision="fp32")
    config = TrialConfig("unet", {"widths": [8, 8, 8, 8, 8]}, source, fingerprints, recipe, 0, "cpu")
    run_trial(TrialTask(config), Work({"bundle": folder}))
    return folder


def _skipped_browser_tests(reporter: Any) -> int:
    return sum("chromium" in str(report.longrepr).lower() for report in reporter.stats.get("skipped", []))


def _say_what_was_read_damaged(reporter: Any) -> None:
    reports = reporter.stats.get("passed", []) + reporter.stats.get("failed", [])
    found = [value for report in reports for name, value in report.user_properties if name == "fuzz"]
    if found:
        sums = {name: sum(figures[name] for figures in found) for name in found[0]}
        reporter.write_line(
            f"damaged files: {sums['inputs']:,} inputs for {len(found)} readers, {sums['used']:,} used, "
            f"{sums['refused']:,} refused in words, crashes {sums['crashes']}, hangs {sums['hangs']}"
        )


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Run files with slow tests first, so that at the end no process works alone on a long one; skip nightly tests."""
    for item in items:
        if item.get_closest_marker("nightly") and not NIGHTLY:
            item.add_marker(pytest.mark.skip(reason="run by make nightly"))
    slow = {item.path for item in items if item.get_closest_marker("slow")}
    items.sort(key=lambda item: item.path not in slow)


def pytest_terminal_summary(terminalreporter: Any) -> None:
    """Print what came of damaged files, and that pages were not tested in a browser, which a list of skips hides."""
    _say_what_was_read_damaged(terminalreporter)
    count = _skipped_browser_tests(terminalreporter)
    if count:
        wanted = "; ZOO_BROWSER=1 makes that a failure" if os.environ.get("ZOO_BROWSER") == "1" else ""
        terminalreporter.write_line(f"note: {count} browser tests were skipped: there is no Chromium here{wanted}")


def pytest_sessionfinish(session: pytest.Session) -> None:
    """Fail where ``ZOO_BROWSER=1`` promises a browser and its tests were skipped."""
    reporter = session.config.pluginmanager.get_plugin("terminalreporter")
    if os.environ.get("ZOO_BROWSER") == "1" and reporter is not None and _skipped_browser_tests(reporter):
        session.exitstatus = pytest.ExitCode.TESTS_FAILED


@pytest.fixture
def ray_node() -> Iterator[None]:
    """Ray with two processors, started for this test: other tests may have clusters of their own at the same time."""
    ray = pytest.importorskip("ray")
    ray.init(
        address="local", num_cpus=2, include_dashboard=False, log_to_driver=False,
        _system_config={"worker_niceness": 0},
        runtime_env={"env_vars": {"PYTHONPATH": str(REPOSITORY)}},
    )  # fmt: skip
    yield
    ray.shutdown()
