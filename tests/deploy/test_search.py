"""Test the choice, the cache, the errors and the report of optimize()."""

from __future__ import annotations

import copy
import json
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from zoo import machine
from zoo.deploy import forms, optimize, parity, search, tuning_cache
from zoo.deploy.forms import Candidate, TorchForm
from zoo.deploy.search import CHOSEN_FORM
from zoo.errors import ModelError, UnknownNameError
from zoo.jobs import Job, Work, run_job
from zoo.schema import to_plain
from zoo.training.predictor import Predictor, landslide_probability

Trained = Callable[[str], nn.Module]
EXAMPLE = torch.randn(2, 7, 32, 32, generator=torch.Generator().manual_seed(0))


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("ZOO_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache" / "deploy"


@pytest.fixture
def no_backends(monkeypatch: pytest.MonkeyPatch) -> None:
    """Building graphs takes seconds, and most tests are about something else."""
    monkeypatch.setattr(forms, "_backends", lambda *args: [])


@pytest.fixture
def no_timing(monkeypatch: pytest.MonkeyPatch) -> None:
    """Whoever times something now should not."""

    def refuse(*args: object, **options: object) -> None:
        raise AssertionError("measured although the choice was remembered")

    monkeypatch.setattr(search, "time_interleaved", refuse)
    monkeypatch.setattr("zoo.deploy.forms.time_interleaved", refuse)


def close(found: Tensor, expected: Tensor, limit: float = 1e-4) -> bool:
    return bool((found - expected).abs().max() <= limit * expected.abs().max())


@pytest.mark.slow
@torch.no_grad()
def test_all_forms_are_measured_and_the_fastest_is_taken(trained: Trained) -> None:
    model = trained("enhanced_unet")
    before = copy.deepcopy(model.state_dict())
    fast = optimize(model, EXAMPLE, use_cache=False)
    report = fast.report
    measured = {trial.name: trial.seconds for trial in report.trials if trial.seconds is not None}
    assert {"unchanged", "ONNX Runtime, fp32", "OpenVINO, fp32"} <= set(measured)
    assert report.chosen == min(measured, key=lambda name: measured[name] or 0)
    assert [trial.name for trial in report.trials if trial.verdict == CHOSEN_FORM] == [report.chosen]
    assert report.folds["batch normalisations"] == 10
    for batch, height, width in ((2, 32, 32), (5, 32, 32), (1, 41, 64)):
        images = torch.randn(batch, 7, height, width)
        assert close(fast(images), model(images))
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())
    assert to_plain(report)["chosen"] == report.chosen
    assert report.chosen in str(report)


@pytest.mark.usefixtures("no_backends")
def test_the_choice_is_cached(trained: Trained, request: pytest.FixtureRequest, cache: Path) -> None:
    first = optimize(trained("unet"), EXAMPLE)
    assert not first.report.from_cache
    assert len(list(cache.iterdir())) == 1
    request.getfixturevalue("no_timing")
    again = optimize(trained("unet"), EXAMPLE)
    assert again.report.from_cache
    assert again.report.chosen == first.report.chosen
    assert "measured earlier" in str(again.report)
    # Other weights of the same structure are as fast.
    other = copy.deepcopy(trained("unet"))
    nn.init.normal_(other.head.weight)
    assert optimize(other, EXAMPLE).report.from_cache


@pytest.mark.usefixtures("no_backends", "cache")
def test_a_choice_measured_under_load_is_marked_and_measured_again(
    trained: Trained, monkeypatch: pytest.MonkeyPatch
) -> None:
    for module in (search, tuning_cache):
        monkeypatch.setattr(module, "cores_in_use", lambda: 1.7)
    assert "warning: other programs use 1.7 of" in str(optimize(trained("unet"), EXAMPLE).report)
    stored = optimize(trained("unet"), EXAMPLE).report
    assert stored.from_cache
    assert stored.cores_in_use == 1.7
    monkeypatch.setattr(tuning_cache, "cores_in_use", lambda: 0.1)
    assert not optimize(trained("unet"), EXAMPLE).report.from_cache


@pytest.mark.usefixtures("no_backends")
def test_another_machine_version_or_shape_is_another_choice(
    trained: Trained, monkeypatch: pytest.MonkeyPatch, cache: Path
) -> None:
    model = trained("unet")
    key = tuning_cache.cache_key(model, EXAMPLE, "fp32")
    assert tuning_cache.cache_key(model, EXAMPLE[:1], "fp32") != key
    assert tuning_cache.cache_key(model, EXAMPLE, "auto") != key
    assert tuning_cache.cache_key(trained("enhanced_unet"), EXAMPLE, "fp32") != key
    optimize(model, EXAMPLE)
    monkeypatch.setattr(tuning_cache, "_version", lambda package: "0.1")
    assert not optimize(model, EXAMPLE).report.from_cache
    monkeypatch.undo()
    monkeypatch.setenv("ZOO_CACHE", str(cache.parent))
    # A file that was copied here under our name says whose it is.
    for file in cache.iterdir():
        kept = json.loads(file.read_text())
        kept["key"]["machine"]["processor"] = "another"
        file.write_text(json.dumps(kept))
    assert tuning_cache.load_choice(key) is None


@pytest.mark.usefixtures("no_backends")
def test_a_damaged_choice_is_made_again(trained: Trained, cache: Path) -> None:
    optimize(trained("unet"), EXAMPLE)
    (file,) = cache.iterdir()
    whole = file.read_text()
    for damaged in (
        whole[: len(whole) // 2],
        "[]",
        whole.replace('"ranking"', '"rank"'),
        whole.replace("unchanged", "as it will be"),
    ):
        file.write_text(damaged)
        assert not optimize(trained("unet"), EXAMPLE).report.from_cache
        assert json.loads(file.read_text())["key"] == json.loads(whole)["key"]


@pytest.mark.usefixtures("no_backends")
def test_an_unwritable_cache_is_reported_and_not_fatal(
    trained: Trained, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("ZOO_CACHE", str(tmp_path / "file"))
    report = optimize(trained("unet"), EXAMPLE).report
    assert any(message.startswith("the choice was not stored: ") for message in report.messages)


def with_one_more(
    monkeypatch: pytest.MonkeyPatch, build: Callable[[nn.Module], nn.Module], precision: Any = "fp32"
) -> None:
    def backends(folded: nn.Module, example: Tensor) -> list[Candidate]:
        return [Candidate("mine", precision, lambda: build(folded))]

    monkeypatch.setattr(forms, "_backends", backends)
    monkeypatch.setattr(
        search, "time_interleaved", lambda runs, device: {name: 0.0 if name == "mine" else 1.0 for name in runs}
    )


class Off(nn.Module):
    def __init__(self, model: nn.Module, by: float) -> None:
        super().__init__()
        self.model, self.by = model, by

    def forward(self, x: Tensor) -> Tensor:
        logits: Tensor = self.model(x) + self.by
        return logits


def test_a_form_that_computes_something_else_is_not_used(trained: Trained, monkeypatch: pytest.MonkeyPatch) -> None:
    with_one_more(monkeypatch, lambda folded: Off(folded, 0.0))
    assert optimize(trained("unet"), EXAMPLE, use_cache=False).report.chosen == "mine"
    for wrong in (0.1, float("nan")):
        with_one_more(monkeypatch, lambda folded, wrong=wrong: Off(folded, wrong))  # type: ignore[misc]
        report = optimize(trained("unet"), EXAMPLE, use_cache=False).report
        (trial,) = (trial for trial in report.trials if trial.name == "mine")
        assert report.chosen != "mine"
        assert trial.verdict.startswith("skipped: differs by ")
        assert trial.verdict in str(report)


def test_a_form_that_is_wrong_at_another_size_is_not_used(trained: Trained, monkeypatch: pytest.MonkeyPatch) -> None:
    class OnlyHere(nn.Module):
        def __init__(self, model: nn.Module) -> None:
            super().__init__()
            self.model = model

        def forward(self, x: Tensor) -> Tensor:
            logits: Tensor = self.model(x)
            return logits if x.shape[-2:] == EXAMPLE.shape[-2:] else logits.relu()

    with_one_more(monkeypatch, OnlyHere)
    report = optimize(trained("unet"), EXAMPLE, use_cache=False).report
    assert report.chosen != "mine"
    assert any(trial.name == "mine" and "differs by" in trial.verdict for trial in report.trials)


def test_a_cached_form_is_checked_again(trained: Trained, monkeypatch: pytest.MonkeyPatch) -> None:
    with_one_more(monkeypatch, lambda folded: Off(folded, 0.0))
    assert optimize(trained("unet"), EXAMPLE).report.chosen == "mine"
    with_one_more(monkeypatch, lambda folded: Off(folded, 1.0))
    again = optimize(trained("unet"), EXAMPLE).report
    assert again.from_cache
    assert again.chosen != "mine"


def test_a_fold_that_goes_wrong_is_not_used(trained: Trained, monkeypatch: pytest.MonkeyPatch) -> None:
    with_one_more(monkeypatch, lambda folded: folded)
    monkeypatch.setattr("zoo.deploy.folding._scale_and_shift", lambda norm: (norm.running_var.double(), 0.0))
    model = trained("unet")
    fast = optimize(model, EXAMPLE, use_cache=False)
    assert any("nothing is folded: the folded model differs" in message for message in fast.report.messages)
    with torch.no_grad():
        assert close(fast(EXAMPLE), model(EXAMPLE))


def test_bf16_has_to_pass_the_gate(trained: Trained, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(forms, "bf16_in_hardware", lambda device: False)
    with_one_more(monkeypatch, lambda folded: Off(folded, 1e-3), "bf16")
    model, images = trained("unet"), torch.randn(4, 7, 32, 32)
    with torch.no_grad():
        probability = landslide_probability(model(images))
        threshold = float(probability.median())
        mask = (probability > threshold).long()

    def patches() -> Iterator[dict[str, Tensor]]:
        yield {"image": images[:2], "mask": mask[:2]}
        yield {"image": images[2:], "mask": mask[2:]}

    for precision in ("bf16", "auto"):
        report = optimize(model, EXAMPLE, precision, calibration=patches(), threshold=threshold, use_cache=False).report
        assert report.chosen == "mine"
        assert report.gate is not None
        assert report.gate.dice_before > 0.999
        assert any("bf16 passes the gate" in message for message in report.messages)
    monkeypatch.setattr(parity, "MAX_FLIPS_PPM", -1.0)
    report = optimize(model, EXAMPLE, "bf16", use_cache=False).report
    assert report.chosen != "mine"
    assert report.gate is None
    assert any(message.startswith("mine does not pass the gate: ") for message in report.messages)
    assert any("no patches were given" in message for message in report.messages)
    assert "computing in fp32: no bf16 form can be used here" in report.messages
    assert optimize(model, EXAMPLE, "bf16", gate=False, use_cache=False).report.chosen == "mine"


@pytest.mark.usefixtures("no_backends")
def test_a_predictor_stays_a_predictor(trained: Trained) -> None:
    predictor = Predictor(trained("unet"), range(7), range(7)).eval()
    images = 10 * torch.randn(2, 7, 32, 32)
    images[0, 3, 5:9] = float("nan")
    patches = [{"image": images, "mask": torch.zeros(2, 32, 32, dtype=torch.long)}]
    fast = optimize(predictor, images, "auto", calibration=patches)
    assert isinstance(fast, Predictor)
    with torch.no_grad():
        logits = fast(images)
        assert close(logits, predictor(images), 0.05)
    assert fast.landslide_probability(logits).shape == (2, 32, 32)
    assert fast.report.chosen
    with pytest.raises(ModelError, match="in training mode"):
        optimize(copy.deepcopy(predictor).train(), images)


@pytest.mark.usefixtures("no_backends")
def test_the_optimised_model_refuses_what_the_model_does(trained: Trained) -> None:
    fast = optimize(trained("unet"), EXAMPLE)
    with pytest.raises(ModelError, match="made for 7 channels, got 3"):
        fast(torch.randn(1, 3, 32, 32))
    with pytest.raises(ModelError, match="at least 8x8 pixels, got 4x32"):
        fast(torch.randn(1, 7, 4, 32))
    with pytest.raises(ModelError, match="an optimised model cannot be trained"):
        fast.train()
    assert not fast(EXAMPLE.clone().requires_grad_()).requires_grad


@pytest.mark.parametrize(
    ("example", "message"),
    [
        (torch.randn(7, 32, 32), "must be a float32 tensor of one or more images"),
        (torch.randn(1, 7, 32, 32).double(), "must be a float32 tensor"),
        (torch.randn(0, 7, 32, 32), "must be a float32 tensor"),
        (torch.randn(1, 7, 4, 32), "at least 8x8 pixels"),
    ],
)
def test_an_example_that_the_model_cannot_take_is_refused(example: Tensor, message: str, trained: Trained) -> None:
    with pytest.raises(ModelError, match=message):
        optimize(trained("unet"), example)


def test_models_with_other_outputs_fail_with_a_clear_message() -> None:
    with pytest.raises(ModelError, match=r"cannot run on the example of shape \(2, 7, 32, 32\) \(RuntimeError"):
        optimize(nn.Conv2d(3, 2, 1).eval(), EXAMPLE)
    with pytest.raises(ModelError, match="one tensor of logits"):
        optimize(nn.Flatten().eval(), EXAMPLE)
    with pytest.raises(UnknownNameError, match="unknown precision 'fp16'"):
        optimize(nn.Conv2d(7, 2, 1).eval(), EXAMPLE, "fp16")  # type: ignore[arg-type]


class Strange(nn.Module):
    """Holds an operation that has no ONNX form."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(7, 2, 1)

    def forward(self, x: Tensor) -> Tensor:
        return torch.special.bessel_j0(self.conv(x))


@pytest.mark.slow
@pytest.mark.nightly
def test_an_operation_without_onnx_form_skips_the_backends_with_the_reason() -> None:
    report = optimize(Strange().eval(), EXAMPLE, use_cache=False).report
    verdicts = {trial.name: trial.verdict for trial in report.trials}
    assert "bessel_j0" in verdicts["ONNX Runtime, fp32"]
    assert report.chosen.startswith(("torch", "unchanged"))


def test_a_missing_extra_names_the_package_to_install(trained: Trained, monkeypatch: pytest.MonkeyPatch) -> None:
    for library in ("onnx", "onnxruntime", "openvino"):
        monkeypatch.setitem(sys.modules, library, None)
    report = optimize(trained("unet"), EXAMPLE, use_cache=False).report
    verdicts = {trial.name: trial.verdict for trial in report.trials}
    for name in ("ONNX Runtime, fp32", "OpenVINO, fp32"):
        assert verdicts[name].startswith("skipped: ")
        assert "pip install 'landslide-zoo[export]'" in verdicts[name]


def test_a_form_for_one_size_hands_over_at_others(trained: Trained, monkeypatch: pytest.MonkeyPatch) -> None:
    class OneSize(nn.Module):
        def __init__(self, model: nn.Module) -> None:
            super().__init__()
            self.model = model

        def forward(self, x: Tensor) -> Tensor:
            assert x.shape[-2:] == EXAMPLE.shape[-2:]
            logits: Tensor = self.model(x)
            return logits

    def backends(folded: nn.Module, *rest: object) -> list[Candidate]:
        return [Candidate("mine", "fp32", lambda: OneSize(folded), any_size=False)]

    with_one_more(monkeypatch, OneSize)
    monkeypatch.setattr(forms, "_backends", backends)
    model = trained("unet")
    fast = optimize(model, EXAMPLE, use_cache=False)
    assert fast.report.chosen == "mine"
    assert fast.fallback is None
    images = torch.randn(3, 7, 48, 33)
    with torch.no_grad():
        assert close(fast(images), model(images))
    assert isinstance(fast.fallback, TorchForm)


def raise_thresholds(argument: None, work: Work) -> tuple[bool, str | None, bool]:
    """Job of a process that has imported this module."""
    return machine.thresholds_are_raised(), machine.raise_allocator_thresholds(), machine.thresholds_are_raised()


def test_allocator_thresholds_are_raised_by_a_call_but_not_by_importing() -> None:
    job: Job[tuple[bool, str | None, bool]] = Job(f"{__name__}:raise_thresholds")
    before, problem, after = run_job(job).unwrap()
    assert before is False
    assert after is (problem is None)


def test_other_allocators_are_left_unchanged_with_a_message(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(machine, "_raised", False)  # another test of this process may have raised them
    monkeypatch.setattr(machine.sys, "platform", "darwin")
    assert machine.raise_allocator_thresholds() == "the allocator of darwin has no such thresholds"
    monkeypatch.setattr(machine.sys, "platform", "linux")
    monkeypatch.setattr(machine.ctypes, "CDLL", lambda name: object())
    problem = machine.raise_allocator_thresholds()
    assert problem is not None
    assert "not glibc" in problem
    assert not machine.thresholds_are_raised()


def test_importing_the_room_is_cheap() -> None:
    code = "import sys, zoo.deploy; print('torch' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "False"


@torch.no_grad()
def test_streams_are_tried_where_there_are_threads_and_images_for_them(trained: Trained, no_backends: None) -> None:
    model, images = trained("unet"), torch.randn(4, 7, 32, 32)
    torch.set_num_threads(2)
    try:
        offered = forms.candidates_for(model, model, images, ("fp32",), {})
        one = forms.candidates_for(model, model, images[:1], ("fp32",), {})
        streams = {candidate.name: candidate for candidate in offered if "streams" in candidate.name}
        assert list(streams) == [f"2 streams of {count}, torch, fp32, channels last, fused" for count in (1, 2)]
        assert close(next(iter(streams.values())).build()(images), model(images))
        assert not [candidate for candidate in one if "streams" in candidate.name or "at once" in candidate.name]
    finally:
        torch.set_num_threads(1)
    alone = [candidate.name for candidate in forms.candidates_for(model, model, images, ("fp32",), {})]
    assert [name for name in alone if "at once" in name] == [
        f"torch, fp32, channels last, fused, {count} at once" for count in (1, 2)
    ]
