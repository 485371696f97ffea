"""A new plugin of every kind installs, loads, and the commands of its README work, its own tests among them."""

from __future__ import annotations

import json
import os
import re
import shlex
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

import zoo
from tests.conftest import NIGHTLY, REPOSITORY, Environment, PreparedProcess
from zoo.api.plugin import KINDS, specs_to_check
from zoo.errors import ConfigError, PluginError, UnknownNameError, ZooError
from zoo.registry import reload

LISTED = {
    "model": "models: my_model",
    "dataset": "datasets: my_dataset",
    "loss": "losses: my_loss",
    "metric": "metrics: my_metric",
    "risk-model": "risk models: my_risk_model",
    "command": "commands: my_command",
    "exporter": "exporters: my_exporter",
    "weights": "loaded",
}
PRINTED = {
    "model": (r"my_model +Three convolutions", "my_model passes every check", r"\nmy_model ", "my_metric"),
    "dataset": ("red, nir", "my_dataset passes every check"),
    "loss": ("my_loss passes every check",),
    "metric": ("my_metric passes every check",),
    "risk-model": ("my_risk_model passes every check", "my_risk_model"),
    "command": ("hello world",),
    "exporter": ("unet.myexporter",),
    "weights": (r"my_weights/my-region .* trained on my region",),
}
"""What the commands of the README print."""


@pytest.fixture(scope="module")
def environment(tmp_path_factory: pytest.TempPathFactory) -> Environment:
    """A fresh environment with zoo and a new plugin of every kind, each in a folder of its own."""
    folder = tmp_path_factory.mktemp("plugins")
    environment = Environment(folder / "env")
    environment.see_packages_outside()
    environment.install(REPOSITORY)
    for kind in KINDS:
        done = environment.run("zoo", "plugin", "new", f"zoo-my-{kind}", "--kind", kind, cwd=folder)
        assert done.returncode == 0, done.stderr
    environment.install_editable(*(folder / f"zoo-my-{kind}" for kind in KINDS))
    return environment


def in_one_benchmark(kind: str, commands: str) -> str:
    """Bench the data set, the loss and the metric together with the model, except in the nightly run."""
    if NIGHTLY:
        return commands
    if kind == "model":
        return commands.replace("zoo bench", "zoo bench --data my_dataset --loss my_loss")
    kept = [line for line in commands.splitlines() if not line.startswith("zoo bench")]
    assert len(commands.splitlines()) - len(kept) == (kind in ("dataset", "loss", "metric"))
    return "\n".join(kept)


@pytest.mark.slow
@pytest.mark.fresh
@pytest.mark.parametrize(
    "kind",
    # The slowest two, which differ from the others in the check of their one file.
    [pytest.param(kind, marks=[pytest.mark.nightly] * (kind in ("risk-model", "exporter"))) for kind in KINDS],
)
def test_a_new_plugin_works(kind: str, environment: Environment, prepared_process: PreparedProcess) -> None:
    folder = environment.python.parents[2] / f"zoo-my-{kind}"
    assert "Apache License" in (folder / "LICENSE").read_text()
    plugins = environment.run("zoo", "plugins", cwd=folder).stdout
    (line,) = (line for line in plugins.splitlines() if line.startswith(f"zoo-my-{kind} "))
    assert LISTED[kind] in line
    if kind == "risk-model":
        rows = "".join(f"{i % 2},{20 + i % 7 + 3 * (i % 2)},{i % 5}\n" for i in range(60))
        (folder / "table.csv").write_text("landslide,slope,rain\n" + rows)
    (commands,) = re.findall(r"^```\n(.*?)^```", (folder / "README.md").read_text(), re.M | re.S)
    assert commands.startswith("pip install")
    installed = in_one_benchmark(kind, commands.split("\n", 1)[1])
    if "my_dataset" not in installed:
        installed = installed.replace("--steps 5", "--steps 5 --data-option scenes=3")
    installed = installed.replace("zoo train unet", "zoo train unet --option 'widths=(4, 4, 4, 4, 4)'")
    sources = [folder.with_name(f"zoo-my-{one}") / "src" for one in KINDS]
    seen = os.pathsep.join(map(str, [*sources, environment.site]))
    said = ""
    for line in installed.splitlines():
        command = shlex.split(line, comments=True)
        if command[0] == "zoo":
            done = prepared_process.run(tuple(command[1:]), folder, {"PYTHONPATH": seen})
        else:
            done = environment.run(*command, cwd=folder, OMP_NUM_THREADS="1")
        said += done.stdout + done.stderr
        assert done.returncode == 0, said
    for words in (*PRINTED[kind], r"\d passed"):
        assert re.search(words, said), said


def test_wrong_names_and_kinds_are_refused(tmp_path: Path) -> None:
    with pytest.raises(UnknownNameError, match="Did you mean 'model'"):
        zoo.new_plugin("zoo-my-net", "modle", tmp_path / "x")  # type: ignore[arg-type]
    with pytest.raises(ConfigError, match="not a valid name"):
        zoo.new_plugin("My Net", out=tmp_path / "x")
    with pytest.raises(ConfigError, match="already exists"):
        zoo.new_plugin("zoo-my-net", out=tmp_path)
    for name in ("class", "zoo-" + "a" * 300, "my net", "zoo-\u00e9"):
        with pytest.raises(ConfigError, match="not a valid name"):
            zoo.new_plugin(name, out=tmp_path / "x")
    for name in ("torch", "zoo", "landslide-zoo", "json", "scikit-learn"):
        with pytest.raises(ConfigError, match="is the name of an installed package"):
            zoo.new_plugin(name, out=tmp_path / "x")
    for name, kind in (("zoo-unet", "model"), ("zoo-focal", "loss"), ("zoo-lsi", "risk-model")):
        with pytest.raises(ConfigError, match=f"already registers the {kind.replace('-', ' ')} {name[4:]!r}"):
            zoo.new_plugin(name, kind, tmp_path / "x")  # type: ignore[arg-type]
    (tmp_path / "link").symlink_to("nowhere")
    with pytest.raises(ConfigError, match="already exists"):
        zoo.new_plugin("zoo-my-net", out=tmp_path / "link")
    (tmp_path / "file").write_text("")
    with pytest.raises(ZooError, match="cannot write here"):
        zoo.new_plugin("zoo-my-net", out=tmp_path / "file" / "x")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["file", "link"]


TWO = """
    from zoo.registry import LossSpec, MetricSpec, hookimpl

    @hookimpl
    def zoo_register_losses(register):
        register(LossSpec(name="my_ce", target="zoo_two:ce", summary="s"))

    @hookimpl
    def zoo_register_metrics(register):
        register(MetricSpec(name="my_count", target="zoo_two:count", summary="s"))

    def ce(ignore_index=255):
        from torch import nn
        return nn.CrossEntropyLoss(ignore_index=ignore_index)

    def count(tp, fp, fn, tn):
        return tp + 0.0
"""


@pytest.fixture
def two(install: Callable[[str, str], None], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """A plugin with a loss and a metric, one that fails, and the folder of one that is not installed."""
    install("zoo-two", TWO)
    install("zoo-bad", "raise RuntimeError('boom')")
    monkeypatch.chdir(tmp_path)
    for name in ("zoo-two", "zoo-absent"):
        Path(name).mkdir()
        Path(name, "pyproject.toml").write_text(f'[project]\nname = "{name}"\n')
    Path("patches").mkdir()
    reload()
    yield
    reload()


@pytest.mark.usefixtures("two")
def test_names_plugins_and_folders_are_checked() -> None:
    def named(name: str) -> list[str]:
        return [spec.name for spec in specs_to_check(name)[0]]

    assert named("focal") == ["focal"]
    assert named("zoo-two") == named("./zoo-two") == ["my_ce", "my_count"]
    folder, options = specs_to_check("patches")
    assert (folder[0].name, options) == ("folder", {"root": "patches"})
    with pytest.raises(UnknownNameError, match="Did you mean 'my_ce'"):
        specs_to_check("my_cee")
    with pytest.raises(ConfigError, match=r"'zoo-absent' is not installed\. pip install --editable \./zoo-absent"):
        specs_to_check("./zoo-absent")
    with pytest.raises(ConfigError, match="is a file, not a name or a folder"):
        specs_to_check("zoo-absent/pyproject.toml")
    with pytest.raises(PluginError, match="zoo-bad: RuntimeError: boom"):
        specs_to_check("zoo-bad")


@pytest.mark.slow
@pytest.mark.usefixtures("two")
def test_check_names_everything_that_a_plugin_registers(zoo: Callable[..., subprocess.CompletedProcess[str]]) -> None:
    done = zoo("check", "zoo-two", "--json")
    found = {(one["name"], one["check"]): one["status"] for one in json.loads(done.stdout)}
    assert found["my_ce", "loss_value"] == found["my_count", "metric_values"] == "passed"
    assert found["my_ce", "loss_ignores"] == "failed"
    assert done.returncode == 1
    assert "have different options" in zoo("check", "zoo-two", "--option", "a=1").stderr
