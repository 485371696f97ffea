"""The listing commands: fast, without torch, for people and for programs."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import textwrap
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.conftest import ZOO
from zoo.cli import run

Zoo = Callable[..., "subprocess.CompletedProcess[str]"]
HEAVY = ("torch", "numpy", "scipy", "pandas", "rasterio", "matplotlib")
ONLY_TO_TRAIN = ("lightning", "albumentations", "segmentation_models_pytorch", "timm", "torchvision", "torch._dynamo")
"""Libraries that no model or command needs without training, except a model that is built from them."""


def test_listing_imports_nothing_heavy() -> None:
    code = f"""
import sys
import textwrap
from zoo.cli import run
for line in ("--help", "--version", "models", "datasets", "plugins", "weights", "bench -h"):
    code = run(line.split())
    found = [name for name in {HEAVY!r} if name in sys.modules]
    if code or found:
        sys.exit(f"{{line}}: exit code {{code}}, imported {{found}}")
import zoo.cli.tables  # zoo report
if "torch" in sys.modules:
    sys.exit("zoo report imports torch")
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


def test_commands_that_do_not_train_import_no_library_for_training() -> None:
    """Mapping starts in half the time of training. benchmarks/startup.py measures it.

    Commands that open patches also import torchgeo, whose data set class ours inherit from.
    """
    code = f"""
import sys
import zoo.mapping.pipeline, zoo.models.unet, zoo.risk.calibration
others = ("geopandas", "pandas", "matplotlib", "scipy.stats", "sympy", "torchgeo", "triton")
found = [name for name in ({ONLY_TO_TRAIN!r} + others) if name in sys.modules]
sys.exit(f"imported {{found}}" if found else 0)
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


def test_help_names_every_command(zoo: Zoo) -> None:
    text = zoo("--help", check=True).stdout
    for command in ("bench", "datasets", "evaluate", "models", "plugins", "report", "train"):
        assert f"\n  {command} " in text


def test_models_are_listed_by_pattern_and_as_json(zoo: Zoo) -> None:
    text = zoo("models", "*unet*", check=True).stdout
    assert "enhanced_unet" in text
    assert "segnet" not in text
    specs = {spec["name"]: spec for spec in json.loads(zoo("models", "--json", check=True).stdout)}
    assert specs["unet"]["parameters"] == 14_791_298
    assert specs["unet"]["provider"] == "landslide-zoo/models"


def test_show_counts_the_parameters(zoo: Zoo) -> None:
    text = zoo("models", "show", "enhanced_unet", check=True).stdout
    assert "15,142,727 (7 channels, 2 classes)" in text
    assert "eq. 9" in text
    shown = json.loads(zoo("models", "show", "unet", "--json", check=True).stdout)
    assert shown["parameters_counted"] == shown["parameters"]


def test_data_sets_are_listed_and_shown(zoo: Zoo) -> None:
    assert "synthetic" in zoo("datasets", check=True).stdout
    assert "group_column" in zoo("datasets", "show", "folder", check=True).stdout
    assert {spec["name"] for spec in json.loads(zoo("datasets", "--json", check=True).stdout)} >= {
        "synthetic",
        "folder",
    }


def test_plugins_are_listed(zoo: Zoo) -> None:
    reports = json.loads(zoo("plugins", "--json", check=True).stdout)
    assert all(report["status"] == "loaded" for report in reports if report["name"].startswith("landslide-zoo/"))


@pytest.mark.parametrize(
    ("arguments", "complaint"),
    [
        (["model"], "Did you mean 'models'"),
        (["models", "unett"], "unknown model 'unett'"),
        (["models", "show", "unett"], "Did you mean 'unet'"),
        (["models", "show"], "show takes one NAME"),
        (["datasets", "syntetic"], "Did you mean 'synthetic'"),
        (["bench", "--models", "unett"], "Did you mean 'unet'"),
        (["bench", "--data", "syntetic"], "Did you mean 'synthetic'"),
        (["bench", "--recipe", "quik"], "Did you mean 'quick'"),
        (["bench", "--loss", "cee"], "unknown loss 'cee'"),
        (["bench", "--steps", "1", "--epochs", "1"], "cannot be combined"),
        (["bench", "--seeds", "0"], "seeds"),
        (["bench", "--device", "tpu9", "--models", "unet"], "unknown device"),
        (["bench", "--data-option", "scenes"], "not of the form NAME=VALUE"),
        (["bench", "--data-option", "scens=3"], "Did you mean 'scenes'"),
        (["train", "unet", "--out", "x", "--option", "widht=3"], "unknown option 'widht'"),
        (["train", "unet"], "--out"),
        (["train", "unet", "--out", "x", "--old-lr-factor", "0.5"], "no weights are copied"),
        (["train", "unet", "--out", "x", "--gain", "nan"], "nan is not a finite number"),
        (["export", "unet", "--to", "onnx", "--out", "x.onnx", "--pixel-size", "inf"], "inf is not a finite number"),
        (["polygons", "absent.tif", "--out", "x.gpkg", "--threshold", "nan"], "nan is not a finite number"),
        (["polygons", "absent.tif", "--out", "x.gpkg", "--min-area", "nan"], "nan is not a finite number"),
        (["stack", "--out", "x.tif", "--max-cloud", "nan"], "nan is not a finite number"),
        (["report", "absent", "--json", "--format", "csv"], "--json and --format csv cannot be combined"),
        (["report", "absent", "--compare", "absent", "--format", "csv"], "cannot be combined with --format csv"),
        (["report", "absent", "--html", "x.html", "--json"], "--html cannot be combined"),
        (["report", "absent", "--html", "x.html", "--columns", "dice"], "--html cannot be combined"),
        (["report", "absent"], "there is no such folder"),
        (["evaluate", "absent"], "there is no such folder"),
    ],
)
def test_bad_words_get_a_clear_line_and_exit_code_2(
    arguments: list[str],
    complaint: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    code = run(arguments)
    printed = capsys.readouterr()
    assert code == 2, printed.out + printed.err
    assert complaint in printed.err
    assert "Traceback" not in printed.err
    assert len(printed.err.strip().splitlines()) <= 4


@pytest.mark.parametrize(
    ("streams", "code", "complaint"),
    [
        ("models >/dev/full", 2, "file that the output is sent to, is full"),
        ("models <&- >&-", 0, ""),
        ("modelss 2>&-", 2, ""),
    ],
)
def test_a_full_disk_or_closed_streams_are_no_bug(streams: str, code: int, complaint: str) -> None:
    if not Path("/dev/full").exists():
        pytest.skip("no /dev/full here")
    command = f"{Path(sys.executable).with_name('zoo')} {streams}"
    done = subprocess.run(["bash", "-c", command], capture_output=True, text=True)
    assert done.returncode == code, done.stderr
    assert complaint in done.stderr
    assert len(done.stderr.splitlines()) == (2 if complaint else 0)


def test_a_failing_plugin_stops_only_strict_mode(zoo: Zoo, install: Callable[[str, str], None]) -> None:
    install("zoo-bad", "raise RuntimeError('boom')")
    listing = zoo("plugins", check=True).stdout
    assert "zoo-bad" in listing
    assert "RuntimeError: boom" in listing
    assert "unet" in zoo("models", check=True).stdout
    strict = zoo("models", ZOO_STRICT_PLUGINS="1")
    assert strict.returncode == 2
    assert "zoo-bad: plugin failed: RuntimeError: boom" in strict.stderr
    assert zoo("models", ZOO_STRICT_PLUGINS="1", ZOO_PLUGINS="none").returncode == 0


def test_a_plugin_adds_a_command(zoo: Zoo, install: Callable[[str, str], None]) -> None:
    code = """
        import click
        from zoo.registry import hookimpl

        @hookimpl
        def zoo_register_commands(app):
            app.add_command(click.Command("hello", callback=lambda: click.echo("hello from a plugin")))
    """
    install("zoo-hello", code)
    assert "hello" in zoo("--help", check=True).stdout
    assert zoo("hello", check=True).stdout == "hello from a plugin\n"


def test_a_reader_that_leaves_early_is_no_error(tmp_path: Path) -> None:
    command = f"{Path(sys.executable).with_name('zoo')} models --json | head -c 1"
    done = subprocess.run(["bash", "-c", f"set -o pipefail; {command}"], capture_output=True, text=True, cwd=tmp_path)
    assert done.stderr == ""


def test_a_loud_plugin_leaves_the_json_readable(zoo: Zoo, install: Callable[[str, str], None]) -> None:
    code = """
        from zoo.registry import hookimpl
        print("hello")

        @hookimpl
        def zoo_register_models(register):
            print("again")
    """
    install("zoo-loud", code)
    done = zoo("models", "--json", check=True)
    assert json.loads(done.stdout)
    assert "hello" in done.stderr


def test_a_loud_model_leaves_the_json_readable(zoo: Zoo, install: Callable[[str, str], None], tmp_path: Path) -> None:
    install("zoo-loud", LOUD)
    (tmp_path / "site" / "loud_net.py").write_text("from torch.nn import Conv2d as Net\nprint('hello')\n")
    for words in (("models", "show", "loud/net"), ("check", "loud/loss")):
        done = zoo(*words, "--json")
        assert json.loads(done.stdout), done.stderr
        assert "hello" in done.stderr


LOUD = """
    from zoo.registry import LossSpec, ModelSpec, hookimpl

    @hookimpl
    def zoo_register_models(register):
        register(ModelSpec(name="loud/net", target="zoo_loud:net", summary="s"))

    @hookimpl
    def zoo_register_losses(register):
        register(LossSpec(name="loud/loss", target="zoo_loud:loss", summary="s"))

    def net(in_channels=7, classes=2):
        import loud_net
        return loud_net.Net(in_channels, classes, 3, padding=1)

    def loss(ignore_index=255):
        print("hello")
        return lambda logits, mask: logits.mean()
"""
"""A plugin whose model and loss print; their names have a slash, as those of families have."""


def test_a_bad_family_or_a_bad_model_of_one_leaves_the_list(zoo: Zoo, install: Callable[[str, str], None]) -> None:
    family = """
        from zoo.registry import ModelFamilySpec, hookimpl

        @hookimpl
        def zoo_register_models(register):
            register(ModelFamilySpec(name="{0}/net", target="json:loads", variants="zoo_{0}:variants", summary="s"))

        def variants(family):
            return {1}
    """
    install("zoo-half", family.format("half", '{"a": {}, "b": 3}'))
    install("zoo-none", family.format("none", "1 / 0"))
    for words in ((), ("--json",)):
        done = zoo("models", "--all", *words, check=True)
        assert "the fields of 'b' are of type int, not a mapping" in done.stdout
        assert "unet" in done.stdout
        assert (
            done.stderr
            == "warning: model family 'none/net': its models cannot be listed (ZeroDivisionError: division by zero)\n"
        )


def test_a_hanging_plugin_is_named_and_can_be_interrupted(
    install: Callable[[str, str], None], start_session: Callable[..., subprocess.Popen[str]]
) -> None:
    install("zoo-slow", "import time\ntime.sleep(600)\n")
    process = start_session(ZOO, "--version", stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    assert process.stderr is not None
    first = process.stderr.readline()
    assert "plugin 'zoo-slow' is still loading after 2 s" in first
    process.send_signal(signal.SIGINT)
    _, rest = process.communicate(timeout=60)
    assert process.returncode == 130
    assert "interrupted while loading plugin 'zoo-slow'" in rest
    assert "Traceback" not in rest


@pytest.mark.parametrize("module", ["signal", "click"])
def test_ctrl_c_during_the_first_imports_prints_no_traceback(module: str) -> None:
    """The module is the one whose import the signal interrupts."""
    code = f"""
        import os, signal, sys
        signal.signal(signal.SIGINT, signal.default_int_handler)
        for name in ("signal", "zoo.__main__"):
            sys.modules.pop(name, None)
        class Finder:
            def find_spec(name, *_):
                if name == {module!r}:
                    os.kill(os.getpid(), 2)
        sys.meta_path.insert(0, Finder)
        from zoo.__main__ import main
        main()
    """
    done = subprocess.run([sys.executable, "-c", textwrap.dedent(code)], capture_output=True, text=True)
    assert (done.returncode, done.stderr) == (130, "interrupted\n")


def test_plugins_show_provider_and_version(zoo: Zoo, install: Callable[[str, str], None]) -> None:
    install("zoo-exits", "raise SystemExit(0)")
    text = zoo("plugins", check=True).stdout
    assert "landslide-zoo/models" in text
    assert "1.0" in next(line for line in text.splitlines() if line.startswith("zoo-exits"))
    assert "SystemExit: 0" in text
    missing = zoo("models", "show", "my_net")
    assert missing.returncode == 2
    assert "Plugin 'zoo-exits', which may provide it, failed: SystemExit: 0" in missing.stderr


@pytest.mark.slow
def test_check_prints_one_line_a_property_and_fails_with_1(zoo: Zoo, install: Callable[[str, str], None]) -> None:
    code = """
        from zoo.registry import ModelSpec, hookimpl

        @hookimpl
        def zoo_register_models(register):
            register(ModelSpec(name="flat", target="zoo_flat:make", summary="returns a dict"))

        def make(in_channels=7, classes=2):
            from torch import nn

            class Flat(nn.Conv2d):
                def forward(self, x):
                    return {"out": super().forward(x)}

            return Flat(in_channels, classes, 1)
    """
    install("zoo-flat", code)
    done = zoo("check", "flat")
    assert done.returncode == 1
    assert "forward returned a dict" in done.stdout
    assert "return logits of shape (B, K, H, W)" in done.stdout
    results = {one["check"]: one["status"] for one in json.loads(zoo("check", "flat", "--json").stdout)}
    assert results["output_shape"] == "failed"
    assert results["needs_rain"] == "skipped"
