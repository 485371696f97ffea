"""The forms for a GPU, as far as a machine without one can tell: their interface, CUDA played by a stand-in."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import pytest
import torch
from torch import nn

from zoo.deploy import forms
from zoo.deploy.forms import CompiledForm, GraphedForm, TorchForm, TorchOptions


@pytest.fixture
def form() -> TorchForm:
    return TorchForm(nn.Conv2d(3, 2, 1).eval(), TorchOptions()).eval()


@pytest.fixture
def recording(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """CUDA graphs of one machine: what is recorded is nothing but the order of the calls."""
    events: list[str] = []

    class Stream:
        def __init__(self, *args: Any) -> None:
            pass

        def wait_stream(self, other: Any) -> None:
            events.append("wait")

    class Graph:
        def replay(self) -> None:
            events.append("replay")

    @contextmanager
    def capture(graph: Graph) -> Iterator[None]:
        events.append("capture")
        yield

    @contextmanager
    def on(stream: Stream) -> Iterator[None]:
        yield

    for name, value in {
        "Stream": Stream,
        "current_stream": lambda device: Stream(),
        "CUDAGraph": Graph,
        "graph": capture,
        "stream": on,
    }.items():
        monkeypatch.setattr(torch.cuda, name, value)
    return events


@torch.no_grad()
def test_a_graph_is_recorded_once_and_replayed_in_its_own_memory(form: TorchForm, recording: list[str]) -> None:
    example = torch.randn(2, 3, 4, 4)
    graphed = GraphedForm(form, example)
    assert recording == ["wait", "wait", "capture"]
    first = graphed(torch.zeros(2, 3, 4, 4))
    assert recording[3:] == ["replay"]
    assert torch.equal(graphed._input, torch.zeros(2, 3, 4, 4))
    assert first.data_ptr() != graphed._output.data_ptr()
    other = torch.randn(1, 3, 5, 4)
    assert torch.equal(graphed(other), form(other))
    assert recording[3:] == ["replay"]


@torch.no_grad()
def test_a_compiled_form_has_the_interface_of_its_form(form: TorchForm, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch, "compile", lambda module, **options: module)
    x = torch.randn(2, 3, 4, 4)
    assert torch.equal(CompiledForm(form)(x), form(x))


def test_a_gpu_is_offered_graphs_and_the_compiler_and_no_cpu_backend(
    trained: Callable[[str], nn.Module], monkeypatch: pytest.MonkeyPatch
) -> None:
    class Example:
        device = torch.device("cuda")

        def __len__(self) -> int:
            return 8

    monkeypatch.setattr(forms, "bf16_in_hardware", lambda device: True)
    model = trained("unet")
    found = forms.candidates_for(model, model, Example(), ("fp32", "bf16"), {})  # type: ignore[arg-type]
    names = [one.name for one in found]
    assert sum(name.startswith("torch.compile") for name in names) == 2
    assert sum(name.startswith("CUDA graph") for name in names) == 2
    assert not any("OpenVINO" in name or "ONNX" in name for name in names)
