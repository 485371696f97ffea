"""A plugin that fails late, at any command, is named; nothing ends in silence or in a traceback."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.cli.test_bench import QUICK, write_png_patches
from zoo import registry
from zoo.cli import run

LATE = """
    import os
    import click
    import numpy as np
    from torch import nn
    from zoo.datasets import Patch, PatchDataset
    from zoo.physics import Band
    from zoo.registry import DatasetSpec, ExporterSpec, Flag, LossSpec, ModelSpec, hookimpl

    @hookimpl
    def zoo_register_models(register):
        register(ModelSpec(name="late", target="zoo_late:Late", summary="s", flags=frozenset({Flag.EXPORTABLE})))

    @hookimpl
    def zoo_register_losses(register):
        register(LossSpec(name="late_loss", target="zoo_late:Loss", summary="s"))

    @hookimpl
    def zoo_register_datasets(register):
        register(DatasetSpec(name="late_data", target="zoo_late:Data", summary="s"))

    @hookimpl
    def zoo_register_exporters(register):
        target = "zoo_late:export"
        register(ExporterSpec(name="late_file", target=target, summary="s", suffix=".late", opener=target))

    @hookimpl
    def zoo_register_commands(app):
        @app.command("late-exit")
        def late_exit():
            raise SystemExit(3)

    class Odd(BaseException):
        def __str__(self):
            raise RuntimeError("no text")

    def fail():
        raise {"exit": SystemExit(0), "raise": RuntimeError("no such luck"), "odd": Odd()}[os.environ["LATE"]]

    class Late(nn.Module):
        def __init__(self, in_channels, classes):
            super().__init__()
            self.head = nn.Conv2d(in_channels, classes, 3, padding=1)
        def forward(self, x):
            if "LATE" in os.environ:
                fail()
            return self.head(x)

    class Loss(nn.CrossEntropyLoss):
        steps = 0
        def __init__(self, ignore_index):
            super().__init__(ignore_index=ignore_index)
        def forward(self, logits, mask):
            self.steps += 1
            if self.steps == 2:
                raise ValueError("the second step")
            return super().forward(logits, mask)

    class Data(PatchDataset):
        def __init__(self, root=None, split="train", transforms=None):
            self.bands = (Band("red", "1"),)
            self.patches = [Patch(name=f"{split}{number}", group="g") for number in range(4)]
            self.split, self.transforms = split, transforms
        def read(self, index):
            if self.patches[index].name == "val2":
                raise KeyError("no such file in the archive")
            mask = np.zeros((16, 16), np.uint8)
            mask[4:8, 4:8] = 1
            return mask[None].astype(np.float32), mask

    def export(model, sample, texts, path):
        raise SystemExit(0)
"""


@pytest.fixture
def late(install: Callable[[str, str], None]) -> Iterator[None]:
    install("zoo-late", LATE)
    registry.reload()
    yield
    registry.reload()


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder for a bundle that is trained once."""
    return tmp_path_factory.mktemp("late")


@pytest.fixture
def bundle(late: None, trained: Path, capsys: pytest.CaptureFixture[str]) -> Path:
    """A bundle of a model that works as long as nothing makes it fail."""
    if not (trained / "run").exists():
        patches = write_png_patches(trained / "patches")
        arguments = ["--data", str(patches), "--no-speed", "--out", str(trained / "run"), *QUICK]
        assert run(["train", "late", *arguments]) == 0
        capsys.readouterr()
    return trained / "run"


@pytest.mark.slow
@pytest.mark.parametrize(
    ("how", "reason"),
    [("exit", "SystemExit: 0"), ("raise", "RuntimeError: no such luck"), ("odd", "Odd: its message cannot be shown")],
)
def test_a_model_that_fails_when_it_is_used_is_named(
    bundle: Path, how: str, reason: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("LATE", how)
    assert run(["evaluate", str(bundle)]) == 70
    assert f"the code of plugin zoo-late 1.0 failed ({reason})" in capsys.readouterr().err


@pytest.mark.slow
def test_an_exporter_that_fails_is_named(bundle: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["export", str(bundle), "--to", "late_file", "--out", str(tmp_path / "m.late")]) == 2
    printed = capsys.readouterr().err
    assert "cannot write it (SystemExit: 0)" in printed
    assert "zoo-late" in printed


@pytest.mark.slow
@pytest.mark.usefixtures("late")
def test_a_loss_that_fails_at_a_later_step_is_named_and_other_trials_run(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    patches = write_png_patches(tmp_path / "patches")
    arguments = ["--data", str(patches), "--loss", "late_loss", "--out", str(tmp_path / "out"), *QUICK]
    assert run(["bench", "--models", "late", "--no-speed", *arguments]) == 1
    assert "the code of plugin zoo-late 1.0 failed (ValueError: the second step)" in capsys.readouterr().err


@pytest.mark.usefixtures("late")
def test_a_patch_that_cannot_be_read_is_named(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["train", "late", "--data", "late_data", "--out", str(tmp_path / "out"), *QUICK]) == 70
    printed = " ".join(capsys.readouterr().err.split())
    assert "the code of plugin zoo-late 1.0 failed (KeyError: 'no such file in the archive'; while reading" in printed
    assert "patch 'val2' of Data" in printed


@pytest.mark.usefixtures("late")
def test_a_command_of_a_plugin_ends_with_its_own_code() -> None:
    with pytest.raises(SystemExit, match="3"):
        run(["late-exit"])
