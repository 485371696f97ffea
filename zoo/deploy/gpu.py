"""Forms for a GPU: compiled by torch, or recorded as a CUDA graph."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from zoo.deploy.torch_form import TorchForm


class CompiledForm(nn.Module):
    """A form compiled by ``torch.compile``. Not tried on a CPU, where it gains nothing and takes up to a minute.

    Args:
        form: to compile.
    """

    def __init__(self, form: TorchForm) -> None:
        super().__init__()
        self.form = form
        self._compiled = torch.compile(form, dynamic=False)
        self.eval()

    def forward(self, x: Tensor) -> Tensor:
        logits: Tensor = self._compiled(x)
        return logits


class GraphedForm(nn.Module):
    """A form recorded once as a CUDA graph and replayed: one launch for all kernels of a pass.

    Args:
        form: to record.
        example: ``(B, C, H, W)`` on the GPU; other shapes run the form itself.

    Shape:
        As ``form``. The logits are a copy: the next replay does not change them.
    """

    def __init__(self, form: TorchForm, example: Tensor) -> None:
        super().__init__()
        self.form = form
        self._input = example.clone()
        with torch.no_grad():
            side = torch.cuda.Stream(example.device)  # type: ignore[no-untyped-call]
            side.wait_stream(torch.cuda.current_stream(example.device))
            with torch.cuda.stream(side):
                for _ in range(3):
                    form(self._input)
            torch.cuda.current_stream(example.device).wait_stream(side)
            self._graph = torch.cuda.CUDAGraph()
            with torch.cuda.graph(self._graph):
                self._output: Tensor = form(self._input)
        self.eval()

    def forward(self, x: Tensor) -> Tensor:
        if x.shape != self._input.shape:
            logits: Tensor = self.form(x)
            return logits
        self._input.copy_(x)
        self._graph.replay()
        return self._output.clone()
