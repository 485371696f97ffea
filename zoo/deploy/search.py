"""Find the fastest form of a model on this machine, check that it is equivalent, and cache the choice."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Any, Literal

import torch
from torch import Tensor, nn

from zoo.blocks.checks import check_choice
from zoo.deploy.folding import check_eval_mode, fold
from zoo.deploy.forms import (
    MAX_TIME_RATIO,
    UNCHANGED,
    Candidate,
    Precision,
    TorchOptions,
    candidates_for,
    choose_hybrid_forms,
    make_torch_form,
    time_interleaved,
)
from zoo.deploy.fused import HybridForm
from zoo.deploy.parity import GateReport, Parity, compare_masks
from zoo.deploy.tuning_cache import TunedChoice, cache_key, load_choice, store_choice
from zoo.errors import ModelError, ZooError, first_line
from zoo.machine import cores_in_use, describe_use, is_busy
from zoo.training.predictor import Predictor, calibrated

PRECISIONS: dict[str, tuple[Precision, ...]] = {"fp32": ("fp32",), "bf16": ("bf16",), "auto": ("fp32", "bf16")}
"""Number formats that may be chosen, by requested precision."""
PASS_SECONDS = 1.0
"""Maximum time of a pass; a larger example is timed on fewer images, because tuning a tile would take minutes."""
CHOSEN_FORM = "chosen"

Batches = Iterable[Mapping[str, Tensor]]


@dataclass(frozen=True)
class FormTrial:
    """One form that was tried.

    Attributes:
        name: description of the form.
        seconds: shortest time of a pass over the example; ``None`` if it was not timed.
        difference: largest difference of a logit, relative to the largest logit; ``None`` if it never ran.
        verdict: ``chosen``, or the reason why it was not chosen.
    """

    name: str
    seconds: float | None = None
    difference: float | None = None
    verdict: str = "slower"


@dataclass
class OptimizationReport:
    """Report of :func:`zoo.deploy.optimize`.

    Attributes:
        model: class of the model.
        shape: shape of the example.
        device: device that was measured.
        precision: requested precision.
        chosen: name of the chosen form.
        trials: all forms, including those that cannot be used here.
        folds: number of folds of each kind.
        hybrids: form of each hybrid convolution, by its name.
        from_cache: whether the choice comes from an earlier measurement.
        cores_in_use: cores that other programs used during the measurement; ``None`` if the system does not report it.
        gate: effect of the chosen bf16 form on the masks; ``None`` for fp32.
        choices: the measurements behind the choice, by precision; another machine of the same kind chooses the same
            form from them (``choices`` of :func:`optimize`).
        messages: further notes for the user.
    """

    model: str
    shape: tuple[int, ...]
    device: str
    precision: str
    chosen: str = ""
    trials: list[FormTrial] = field(default_factory=list)
    folds: dict[str, int] = field(default_factory=dict)
    hybrids: dict[str, HybridForm] = field(default_factory=dict)
    from_cache: bool = False
    cores_in_use: float | None = None
    gate: GateReport | None = None
    choices: dict[str, TunedChoice] = field(default_factory=dict)
    messages: list[str] = field(default_factory=list)

    def lines(self) -> list[str]:
        """Return the report as lines of text."""
        size = "x".join(map(str, self.shape))
        origin = "measured earlier" if self.from_cache else "measured now"
        lines = [f"{self.model} on {size}, {self.device}: {self.chosen} ({origin})"]
        folded = ", ".join(f"{count} {what}" for what, count in self.folds.items() if count)
        if folded:
            lines.append(f"folded: {folded}")
        if self.hybrids:
            forms = list(self.hybrids.values())
            counts = ", ".join(f"{forms.count(form)} {form}" for form in dict.fromkeys(forms))
            lines.append(f"hybrid convolutions: {counts}")
        for trial in sorted(self.trials, key=lambda trial: trial.seconds or float("inf")):
            time = "" if trial.seconds is None else f"{1000 * trial.seconds:.1f} ms, "
            lines.append(f"  {trial.name}: {time}{trial.verdict}")
        if self.cores_in_use is not None and is_busy(self.cores_in_use):
            lines.append(f"warning: {describe_use(self.cores_in_use)}: these times are not valid for an idle machine")
        return lines + self.messages

    def __str__(self) -> str:
        return "\n".join(self.lines())


class OptimizedModel(nn.Module):
    """A model in its chosen form.

    Args:
        form: the chosen form.
        fallback: function that builds a form for other sizes when it is first needed; ``None`` if ``form`` takes any
            size.
        size: height and width of the example.
        check: the model's own input check; ``None`` if it has none.
        report: report of the search.

    Shape:
        float32 ``(B, C, H, W)`` -> float32 logits with the model's shape, without gradients, for any batch size and
        any image size that the model takes.
    """

    def __init__(
        self,
        form: nn.Module,
        fallback: Callable[[], nn.Module] | None,
        size: tuple[int, int],
        check: Any,
        report: OptimizationReport,
    ) -> None:
        super().__init__()
        self.form = form
        self.fallback: nn.Module | None = None
        self.size = size
        self._make_fallback = fallback
        self.report = report
        self._check = check
        self.eval()

    def train(self, mode: bool = True) -> OptimizedModel:
        """Stay in eval mode.

        Raises:
            ModelError: for ``mode=True``: a folded model cannot be trained.
        """
        if mode:
            raise ModelError(
                "an optimised model cannot be trained", where="OptimizedModel", hint="Train the original model"
            )
        super().train(False)
        return self

    @torch.no_grad()
    def forward(self, x: Tensor) -> Tensor:
        """Return the logits of ``x``.

        Raises:
            ModelError: for input that the model rejects.
        """
        if self._check is not None:
            self._check(x)
        if x.ndim != 4 or x.dtype != torch.float32:
            raise ModelError(
                f"expected float32 images (batch, channels, height, width), got {str(x.dtype).removeprefix('torch.')} "
                f"of shape {tuple(x.shape)}",
                where="OptimizedModel",
            )
        form = self.form
        if self._make_fallback is not None and tuple(x.shape[-2:]) != self.size:
            if self.fallback is None:
                self.fallback = self._make_fallback()
            form = self.fallback
        # The form sets its own precision, so an outer autocast must not change it.
        with torch.autocast(x.device.type, enabled=False):
            logits: Tensor = form(x)
        return logits


class OptimizedPredictor(Predictor):
    """A :class:`zoo.training.predictor.Predictor` whose model is an :class:`OptimizedModel`."""

    @property
    def report(self) -> OptimizationReport:
        """Return the report of the model."""
        assert isinstance(self.model, OptimizedModel)
        return self.model.report


def optimize(
    model: nn.Module,
    example: Tensor,
    precision: Literal["fp32", "bf16", "auto"] = "fp32",
    *,
    calibration: Batches | None = None,
    threshold: float = 0.5,
    gate: bool = True,
    use_cache: bool = True,
    choices: Mapping[str, TunedChoice] | None = None,
) -> OptimizedModel | OptimizedPredictor:
    """Return the fastest equivalent form of a model on this machine.

    Batch normalisation is folded. Then layouts, fused layers, numbers of images per pass, ONNX Runtime
    and OpenVINO are timed on the example, and the fastest form whose logits agree with the model's is kept. The choice
    is cached for this machine, its software, the structure of the model and the shape of the example; parity and gate
    are checked every time. The model itself is not changed.

    Args:
        model: a float32 model in eval mode; a :class:`~zoo.training.predictor.Predictor` returns a predictor.
        example: float32 ``(B, C, H, W)`` on the model's device. Its shape decides which form is fastest, so use the
            shape of the real input.
        precision: ``fp32`` is exact up to rounding. ``bf16`` is used if it passes the gate; ``auto`` uses it if it
            passes and is faster. Otherwise fp32 is used, and the report says so.
        calibration: batches of ``image``, the input of the model, and optionally ``mask``, for the gate. Without them
            the gate uses only the example and noise, and computes no Dice.
        threshold: landslide probability at and above which a pixel is landslide, for the gate.
        gate: ``False`` uses bf16 regardless of its effect on the masks, for speed measurements.
        use_cache: read and write cached choices.
        choices: ``report.choices`` of a machine of the same kind; used in the place of the cache and of measurements.

    Returns:
        A module with the interface of the model and a ``report``.

    Raises:
        ModelError: if the model is in training mode or cannot run on the example.
        UnknownNameError: for an unknown precision.

    Example:
        >>> import torch
        >>> from zoo.deploy import optimize
        >>> from zoo.registry import create_model
        >>> model = create_model("unet", widths=(8, 16)).eval()
        >>> fast = optimize(model, torch.randn(1, 7, 64, 64))
        >>> fast(torch.randn(1, 7, 64, 64)).shape
        torch.Size([1, 2, 64, 64])
    """
    check_choice("optimize", "precision", precision, PRECISIONS)
    if isinstance(model, Predictor):
        check_eval_mode(model)
        batches = None if calibration is None else [_normalise_batch(model, batch) for batch in calibration]
        inner = optimize(
            model.model,
            model.normalise(_checked_example(model, example)),
            precision,
            calibration=batches,
            # The gate compares the probability of the model, before temperature scaling.
            threshold=calibrated(threshold, 1 / model.temperature),
            gate=gate,
            use_cache=use_cache,
            choices=choices,
        )
        predictor = OptimizedPredictor(inner, model.mean.flatten().tolist(), model.std.flatten().tolist())
        predictor.temperature = model.temperature
        return predictor.to(model.mean.device).eval()
    check_eval_mode(model)
    search = _Search(model, _checked_example(model, example), precision, calibration, threshold if gate else None)
    return search.run(use_cache=use_cache, choices=choices or {})


def _normalise_batch(predictor: Predictor, batch: Mapping[str, Tensor]) -> dict[str, Tensor]:
    return {**batch, "image": predictor.normalise(batch["image"].to(predictor.mean.device))}


def _checked_example(model: nn.Module, example: Tensor) -> Tensor:
    """Return the example if the model runs on it.

    Raises:
        ModelError: if it does not, with the model's own message if it has one.
    """
    where = type(model).__name__
    if not isinstance(example, Tensor) or example.ndim != 4 or example.dtype != torch.float32 or not len(example):
        raise ModelError(
            "the example must be a float32 tensor of one or more images, (batch, channels, height, width)", where=where
        )
    try:
        with torch.inference_mode():
            logits = model(example[:1])
    except ZooError:
        raise
    except Exception as error:  # a model may fail on wrong input with any error
        raise ModelError(
            f"cannot run on the example of shape {tuple(example.shape)} ({type(error).__name__}: {first_line(error)})",
            where=where,
        ) from error
    if not isinstance(logits, Tensor) or logits.ndim != 4:
        raise ModelError(
            f"returns {type(logits).__name__}, not one tensor of logits (batch, classes, height, width)",
            where=where,
            hint="Wrap it in a module that returns only the logits",
        )
    return example.detach()


class _Search:
    """The steps of :func:`optimize` and their shared state."""

    def __init__(
        self,
        model: nn.Module,
        example: Tensor,
        precision: str,
        calibration: Batches | None,
        threshold: float | None,
    ) -> None:
        self.model = model
        self.example = example
        self.precision = precision
        self.threshold = threshold
        self.parity = Parity(model, example)
        self.calibration: Batches
        if calibration is None:
            self.calibration = [{"image": images} for images in self.parity.images]
        else:
            # Several forms may need the batches, and a generator can be read only once.
            self.calibration = list(calibration)
        self.has_patches = calibration is not None
        self.report = OptimizationReport(type(model).__name__, tuple(example.shape), str(example.device), precision)
        self.precisions = PRECISIONS[precision]
        self.folded = self._fold()
        self.built: dict[str, nn.Module] = {}
        self.trials: dict[str, FormTrial] = {}
        self.gate_messages: list[str] = []

    def run(self, *, use_cache: bool, choices: Mapping[str, TunedChoice]) -> OptimizedModel:
        key = cache_key(self.model, self.example, self.precision)
        stored = choices.get(self.precision) or (load_choice(key) if use_cache else None)
        hybrids = self._hybrid_forms() if stored is None else stored.hybrids
        candidates = {
            one.name: one for one in candidates_for(self.model, self.folded, self.example, self.precisions, hybrids)
        }
        if stored is not None and all(name in candidates for name, _ in stored.ranking):
            ranking: Sequence[tuple[str, float]] = stored.ranking
            self.trials |= {name: FormTrial(name, seconds) for name, seconds in ranking}
            self.report.from_cache = True
            self.report.cores_in_use = stored.cores_in_use
            self.report.choices = {self.precision: stored}
        else:
            self.report.cores_in_use = cores_in_use()
            ranking = self._measure(candidates)
            measured = TunedChoice(tuple(ranking), hybrids, self.report.cores_in_use)
            self.report.choices = {self.precision: measured}
            if use_cache:
                problem = store_choice(key, measured)
                if problem is not None:
                    self.report.messages.append(f"the choice was not stored: {problem}")
        chosen = self._choose(ranking, candidates)
        if chosen is None:
            return self._run_in_fp32(use_cache=use_cache, choices=choices)
        self.report.chosen = chosen.name
        self.trials[chosen.name] = self._trial(chosen.name, verdict=CHOSEN_FORM)
        self.report.trials = list(self.trials.values())
        self.report.messages += self.gate_messages
        self.report.hybrids = dict(hybrids.get(chosen.precision, {})) if "fused" in chosen.name else {}
        fallback = None
        if not chosen.any_size:
            example = self.example[:1].clone()
            fallback = partial(make_torch_form, self.folded, example, TorchOptions(), hybrids.get("fp32", {}))
        return OptimizedModel(
            self.built[chosen.name],
            fallback,
            (self.example.shape[-2], self.example.shape[-1]),
            getattr(self.model, "check_input", None),
            self.report,
        )

    def _fold(self) -> nn.Module:
        try:
            folded = fold(self.model, self.example)
            difference = self.parity.difference(folded.model, "fp32")
        except Exception as error:  # a model may depend on a layer that a fold removed, and fail with any error
            self.report.messages.append(f"nothing is folded: {type(error).__name__}: {error}")
            return self.model
        if not difference.passed:
            self.report.messages.append(
                "nothing is folded: the folded model differs from the model by "
                f"{difference.largest:.2g} of the largest logit"
            )
            return self.model
        self.report.folds = {"batch normalisations": folded.batch_norms}
        self.report.messages += [f"warning: {text}" for text in folded.warnings]
        return folded.model

    def _hybrid_forms(self) -> dict[str, dict[str, HybridForm]]:
        return {precision: choose_hybrid_forms(self.folded, self.example, precision) for precision in self.precisions}

    def _prepare(self, candidate: Candidate) -> bool:
        """Build a form and compare its logits; return whether it can be used and note the reason if not."""
        if candidate.name in self.built:
            return True
        try:
            form = candidate.build()
            difference = self.parity.difference(form, candidate.precision, any_size=candidate.any_size)
        except Exception as error:  # libraries may raise anything; the error is the reason why the form cannot be used
            kind = "" if isinstance(error, ZooError) else f"{type(error).__name__}: "
            reason = f"{kind}{first_line(error)}"
            self.trials[candidate.name] = self._trial(candidate.name, verdict=f"skipped: {reason[:300]}")
            return False
        verdict = (
            "slower" if difference.passed else f"skipped: differs by {difference.largest:.2g} of the largest logit"
        )
        self.trials[candidate.name] = self._trial(candidate.name, verdict, difference.largest)
        if difference.passed:
            self.built[candidate.name] = form
        return difference.passed

    def _trial(self, name: str, verdict: str, difference: float | None = None) -> FormTrial:
        before = self.trials.get(name, FormTrial(name))
        return FormTrial(name, before.seconds, before.difference if difference is None else difference, verdict)

    @torch.inference_mode()
    def _measure(self, candidates: Mapping[str, Candidate]) -> list[tuple[str, float]]:
        images = self._images_to_time()
        seconds: dict[str, float] = {}

        def run(names: Iterable[str]) -> dict[str, float]:
            return time_interleaved({name: partial(self.built[name], images) for name in names}, images.device)

        for candidate in candidates.values():
            if self._prepare(candidate):
                seconds |= run([candidate.name])
                # Each form has its own copy of the weights, so drop slow ones as soon as possible.
                for name in [name for name in self.built if seconds[name] > MAX_TIME_RATIO * min(seconds.values())]:
                    del self.built[name]
        seconds |= run(list(self.built))
        for name in seconds:
            seconds[name] *= len(self.example) / len(images)
            self.trials[name] = FormTrial(name, seconds[name], self.trials[name].difference)
        return sorted(seconds.items(), key=lambda pair: pair[1])

    def _images_to_time(self) -> Tensor:
        """Return the images of the example that the folded model computes in :data:`PASS_SECONDS`, at least one."""
        seconds = time_interleaved({"one": partial(self.folded, self.example[:1])}, self.example.device)["one"]
        return self.example[: max(1, int(PASS_SECONDS / seconds))]

    def _choose(self, ranking: Sequence[tuple[str, float]], candidates: Mapping[str, Candidate]) -> Candidate | None:
        """Return the fastest correct form; ``None`` if bf16 was requested and no bf16 form is correct."""
        for candidate in (candidates[name] for name, _ in ranking):
            if self._prepare(candidate) and (candidate.precision == "fp32" or self._passes_gate(candidate)):
                return candidate
        if "fp32" not in self.precisions:
            return None
        # A stored choice can be stale: fall back to the original model.
        candidate = candidates[UNCHANGED]
        assert self._prepare(candidate)
        return candidate

    def _run_in_fp32(self, *, use_cache: bool, choices: Mapping[str, TunedChoice]) -> OptimizedModel:
        """Search in fp32 because no bf16 form can be used, and state that in the report."""
        search = _Search(self.model, self.example, "fp32", self.calibration, self.threshold)
        found = search.run(use_cache=use_cache, choices=choices)
        found.report.precision = self.precision
        found.report.choices |= self.report.choices
        found.report.messages[:0] = [*self.gate_messages, "computing in fp32: no bf16 form can be used here"]
        found.report.trials += self.trials.values()
        return found

    def _passes_gate(self, candidate: Candidate) -> bool:
        if self.threshold is None:
            return True
        found = compare_masks(self.model, self.built[candidate.name], self.calibration, self.threshold)
        where = "" if self.has_patches else "; checked only on the example and on noise, because no patches were given"
        if found.passed:
            self.report.gate = found
            self.gate_messages.append(f"bf16 passes the gate: {found}{where}")
            return True
        self.trials[candidate.name] = self._trial(candidate.name, "skipped: does not pass the gate")
        self.gate_messages.append(f"{candidate.name} does not pass the gate: {found}{where}")
        return False
