"""Every hook is documented with its exact signature, and every example of the page about plugins works."""

from __future__ import annotations

import importlib
import inspect
import json
import re
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import click
import pytest

import zoo as zoo_package
from tests.conftest import REPOSITORY
from zoo.registry import catalogue, create_dataset, create_loss, create_model, hookspecs, reload, specs
from zoo.registry.plugins import PluginLoader
from zoo.testing import run_spec_checks

HOOKS = sorted(name for name in vars(hookspecs) if name.startswith("zoo_register_"))
OLD = {"zoo_register_comparators"}
PAGE = (REPOSITORY / "docs" / "tutorials" / "plugin.md").read_text(encoding="utf-8")
EXAMPLES = dict(re.findall(r"^```python\n# (my_\w+)\.py\n(.*?)^```", PAGE, re.MULTILINE | re.DOTALL))


@pytest.mark.parametrize("hook", [name for name in HOOKS if name not in OLD])
def test_the_page_has_the_signature_of_every_hook(hook: str) -> None:
    function = getattr(hookspecs, hook)
    assert function.__doc__
    signature = str(inspect.signature(function)).replace("'", "")
    assert f"\n{hook}{signature}\n" in PAGE
    assert any(f"def {hook}(" in code for code in [*EXAMPLES.values(), PAGE])


def test_every_hook_is_used_by_a_distribution_here() -> None:
    files = [*REPOSITORY.glob("zoo/*/builtin.py"), *REPOSITORY.glob("plugins/*/src/*/__init__.py")]
    text = "\n".join(path.read_text(encoding="utf-8") for path in files)
    assert [hook for hook in HOOKS if hook not in OLD and f"def {hook}(" not in text] == []


def test_the_page_documents_options_flags_and_variables() -> None:
    for word in ("Option", "forwards_options", "ZOO_PLUGINS", "ZOO_STRICT_PLUGINS", "fingerprint", "_verify", "read"):
        assert word in PAGE
    for flag in specs.Flag:
        assert f"| `{flag.value}` |" in PAGE
    assert f"has version {hookspecs.API_VERSION} " in PAGE


@pytest.fixture
def example(
    install: Callable[[str, str], None], monkeypatch: pytest.MonkeyPatch
) -> Iterator[Callable[[str], PluginLoader]]:
    """Install an example as a plugin and load it."""

    def load(module: str) -> PluginLoader:
        install(module.replace("_", "-"), EXAMPLES[module])
        reload()
        catalogue()
        loader = importlib.import_module("zoo.registry")._loader()
        (report,) = [one for one in loader.reports if one.module == module]
        assert report.status == "loaded", report.error
        return loader

    yield load
    reload()


def test_the_example_of_options_works(install: Callable[[str, str], None]) -> None:
    install("my-net", EXAMPLES["my_net"])
    spec = specs.ModelSpec(name="wide", target="my_net:wide_net", summary="s")
    assert {one.name: one.default for one in spec.options} == {"width": 64, "activation": "relu"}
    assert specs.check_options(spec, {"width": "8", "activation": "gelu"}) == {"width": 8, "activation": "gelu"}
    assert spec.resolve()(in_channels=3, classes=2, width=8, activation="gelu")[0].out_channels == 8
    assert spec.provenance[0].mark == "O"


@pytest.mark.slow
def test_the_example_data_set_opens_in_a_command(example: Callable[[str], PluginLoader], zoo, tmp_path: Path) -> None:
    example("my_stripes")
    data = create_dataset("stripes", "test", size="32", progress=lambda done, total: None)
    assert data[0]["image"].shape == (2, 32, 32)
    line = ["bench", "--models", "unet", "--data", "stripes", "--data-option", "size=32", "--steps", "1"]
    done = zoo(*line, "--batch-size", "2", "--crop", "0")
    assert done.returncode == 0, done.stderr
    (bundle,) = tmp_path.glob("**/bundle.json")
    assert json.loads(bundle.read_text())["data"]["provider"]["plugin"] == "my-stripes"


def test_the_example_loss_takes_options(example: Callable[[str], PluginLoader]) -> None:
    import torch

    example("my_loss")
    logits, mask = torch.zeros(1, 2, 4, 4), torch.zeros(1, 4, 4, dtype=torch.int64)
    assert float(create_loss("smooth_ce", smoothing="0.5")(logits, mask)) == pytest.approx(0.6931, abs=1e-4)


def test_the_example_metric_computes(example: Callable[[str], PluginLoader]) -> None:
    import numpy as np

    example("my_metric")
    tp, fp, fn, tn = (np.array([value, 0]) for value in (2, 1, 1, 5))
    np.testing.assert_equal(catalogue().metrics.get("csi").resolve()(tp, fp, fn, tn), [0.5, np.nan])


def test_the_example_risk_model_is_registered(example: Callable[[str], PluginLoader]) -> None:
    example("my_risk")
    assert catalogue().risk_models.get("boosting").resolve().__name__ == "HistGradientBoostingClassifier"


@pytest.mark.parametrize(
    ("module", "name"),
    [("my_stripes", "stripes"), ("my_loss", "smooth_ce"), ("my_metric", "csi"), ("my_risk", "boosting")],
)
def test_the_examples_keep_their_contracts(example: Callable[[str], PluginLoader], module: str, name: str) -> None:
    example(module)
    results = run_spec_checks(catalogue().find(name))
    assert {one.check: one.message for one in results if one.status == "failed"} == {}


def test_the_example_weights_are_registered(example: Callable[[str], PluginLoader]) -> None:
    example("my_weights")
    assert catalogue().weights.get("unet/valley-rgb").figures[0].dice == 0.71


def test_the_example_family_lists_and_creates_its_models(example: Callable[[str], PluginLoader]) -> None:
    example("my_family")
    assert catalogue().models.names("my/net-*") == ["my/net-k1", "my/net-k3", "my/net-k5"]
    model: Any = create_model("my/net-k3", in_channels=4)
    assert model.kernel_size == (3, 3)


def test_the_example_format_is_written_and_compared(example: Callable[[str], PluginLoader], tmp_path: Path) -> None:
    example("my_exporter")
    done = zoo_package.export("unet", tmp_path / "u.tsm", to="pickled", options={"widths": (4, 4)}, in_channels=3)
    assert done.report.random < 1e-3
    assert done.path.is_file()


def test_the_example_section_makes_a_table(example: Callable[[str], PluginLoader]) -> None:
    example("my_section")
    board = SimpleNamespace(rows=[SimpleNamespace(model="unet")])
    assert catalogue().report_sections.get("names").resolve()(board).rows == (("unet", "4"),)


def test_the_example_command_runs(example: Callable[[str], PluginLoader]) -> None:
    loader = example("my_command")
    app = click.Group()
    loader.register_commands(app)
    assert list(app.commands) == ["hello"]


def test_the_example_plugin_is_the_one_of_the_page() -> None:
    """The first example is the hook of plugins/zoo-example, whose model is created by its path."""
    source = REPOSITORY / "plugins" / "zoo-example" / "src"
    program = "import sys; sys.path.insert(0, sys.argv[1]); from zoo_example.model import TinyFCN; print(TinyFCN(3, 2))"
    done = subprocess.run([sys.executable, "-c", program, source], capture_output=True, text=True)
    assert "MCSA" in done.stdout, done.stderr
    assert create_model("unet", widths=(4, 8)) is not None
