"""One call that finds the fastest form of a model on this machine, proves it, and remembers the choice."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import partial
from typing import Any, Literal

import torch
from torch import Tensor, nn

from zoo.blocks.checks import check_choice
from zoo.deploy.candidates import AS_IT_WAS, Candidate, candidates_for
from zoo.deploy.folding import check_evaluates, fold
from zoo.deploy.gate import compare
from zoo.deploy.parity import Parity
from zoo.deploy.remembered import recall, remember, signature
from zoo.deploy.report import CHOSEN, OptimizationReport, Trial
from zoo.deploy.timing import KEEP_WITHIN, time_interleaved
from zoo.deploy.torch_form import Precision, TorchOptions, choose_hybrid_forms, make_torch_form
from zoo.errors import ModelError, ZooError
from zoo.training.predictor import Predictor

PRECISIONS: dict[str, tuple[Precision, ...]] = {"fp32": ("fp32",), "bf16": ("bf16",), "auto": ("fp32", "bf16")}
"""What may be chosen, by what is asked for."""
PASS_SECONDS = 1.0
"""Larger examples are timed on as many images as fit into this, or finding the fastest form of a tile takes minutes."""

BATCHES = Iterable[Mapping[str, Tensor]]


class OptimizedModel(nn.Module):
    """A model in the form that was chosen for it.

    Args:
        form: that was chosen.
        fallback: makes a form for other sizes when one is first met; ``None`` if ``form`` takes any.
        size: height and width of the example.
        check: of the model, what it refuses; ``None`` if it has none.
        report: of what was tried.

    Shape:
        float32 ``(B, C, H, W)`` -> float32 logits, as the model, without a gradient; any batch and any size that the
        model takes.
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
            ModelError: for ``mode=True``: what was folded cannot be trained.
        """
        if mode:
            raise ModelError(
                "an optimised model cannot be trained", where="OptimizedModel", hint="Train the model it was made of"
            )
        super().train(False)
        return self

    @torch.no_grad()
    def forward(self, x: Tensor) -> Tensor:
        """Logits of ``x``.

        Raises:
            ModelError: for what the model itself refuses.
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
        # The form has its own number format, whatever its surroundings compute in.
        with torch.autocast(x.device.type, enabled=False):
            logits: Tensor = form(x)
        return logits


class OptimizedPredictor(Predictor):
    """A :class:`zoo.training.predictor.Predictor` whose model is an :class:`OptimizedModel`."""

    @property
    def report(self) -> OptimizationReport:
        """Of the model."""
        assert isinstance(self.model, OptimizedModel)
        return self.model.report


def optimize(
    model: nn.Module,
    example: Tensor,
    precision: Literal["fp32", "bf16", "auto"] = "fp32",
    *,
    calibration: BATCHES | None = None,
    threshold: float = 0.5,
    gate: bool = True,
    remembering: bool = True,
) -> OptimizedModel | OptimizedPredictor:
    """The fastest form of a model on this machine that computes the same.

    Batch normalisation and dead taps are folded, then layout, fused operators, images at once and backends are timed
    side by side on the example, and the fastest is kept for which parity holds. The choice is remembered for this
    machine, its software, the structure of the model and the shape of the example; parity and gate are proven anew
    every time. The model is not changed.

    Args:
        model: in eval mode, float32; a :class:`Predictor` gives a predictor again.
        example: float32 ``(B, C, H, W)`` on the model's device, such as will be seen: its shape decides what is fast.
        precision: ``fp32`` is exact but for rounding; ``bf16`` is taken if it passes the gate, and ``auto`` if it
            passes and is faster. Otherwise fp32 is, with a message.
        calibration: batches of ``image``, as the model takes it, and where it is known ``mask``, for the gate.
            Without it the gate looks at the example and at noise, and knows no Dice.
        threshold: landslide probability of the mask, for the gate.
        gate: False takes bf16 whatever it does to the masks, for measurements of speed.
        remembering: whether to look up and keep what was measured.

    Returns:
        A module with the interface of the model and a ``report``.

    Raises:
        ModelError: if the model is in training mode or cannot run on the example.
        UnknownNameError: for another precision.
    """
    check_choice("optimize", "precision", precision, PRECISIONS)
    if isinstance(model, Predictor):
        check_evaluates(model)
        batches = None if calibration is None else [_normalised(model, batch) for batch in calibration]
        inner = optimize(
            model.model,
            model.normalise(_checked(model, example)),
            precision,
            calibration=batches,
            threshold=threshold,
            gate=gate,
            remembering=remembering,
        )
        predictor = OptimizedPredictor(inner, model.mean.flatten().tolist(), model.std.flatten().tolist())
        return predictor.to(model.mean.device).eval()
    check_evaluates(model)
    search = _Search(model, _checked(model, example), precision, calibration, threshold if gate else None)
    return search.run(remembering=remembering)


def _normalised(predictor: Predictor, batch: Mapping[str, Tensor]) -> dict[str, Tensor]:
    return {**batch, "image": predictor.normalise(batch["image"].to(predictor.mean.device))}


def _checked(model: nn.Module, example: Tensor) -> Tensor:
    """The example, if the model runs on it.

    Raises:
        ModelError: otherwise, in the model's own words where it has some.
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
    except Exception as error:  # a model may fail on wrong input in any way it likes
        reason = next(iter(str(error).splitlines()), "")
        raise ModelError(
            f"cannot run on the example of shape {tuple(example.shape)} ({type(error).__name__}: {reason[:200]})",
            where=where,
        ) from error
    if not isinstance(logits, Tensor) or logits.ndim != 4:
        raise ModelError(
            f"returns {type(logits).__name__}, not one tensor of logits (batch, classes, height, width)",
            where=where,
            hint="Wrap it in a module that returns the logits alone",
        )
    return example.detach()


class _Search:
    """The steps of :func:`optimize`, and what they share."""

    def __init__(
        self,
        model: nn.Module,
        example: Tensor,
        precision: str,
        calibration: BATCHES | None,
        threshold: float | None,
    ) -> None:
        self.model = model
        self.example = example
        self.precision = precision
        self.threshold = threshold
        self.parity = Parity(model, example)
        self.calibration: BATCHES
        if calibration is None:
            self.calibration = [{"image": images} for images in self.parity.images]
        else:
            # A generator could be read once, and more than one form may have to pass.
            self.calibration = list(calibration)
        self.knows_patches = calibration is not None
        self.report = OptimizationReport(type(model).__name__, tuple(example.shape), str(example.device), precision)
        self.precisions = PRECISIONS[precision]
        self.folded = self._fold()
        self.built: dict[str, nn.Module] = {}
        self.trials: dict[str, Trial] = {}
        self.gated: list[str] = []

    def run(self, *, remembering: bool) -> OptimizedModel:
        key = signature(self.model, self.example, self.precision)
        kept = recall(key) if remembering else None
        hybrids = self._hybrids(kept)
        candidates = {
            one.name: one for one in candidates_for(self.model, self.folded, self.example, self.precisions, hybrids)
        }
        ranking = self._ranking_kept(kept, candidates)
        if ranking is None:
            ranking = self._measure(candidates)
            if remembering:
                problem = remember(key, {"ranking": ranking, "hybrids": hybrids})
                if problem is not None:
                    self.report.messages.append(f"the choice is not remembered: {problem}")
        else:
            self.report.remembered = True
        chosen = self._choose(ranking, candidates)
        if chosen is None:
            return self._in_fp32(remembering=remembering)
        self.report.chosen = chosen.name
        self.trials[chosen.name] = self._trial(chosen.name, verdict=CHOSEN)
        self.report.trials = list(self.trials.values())
        self.report.messages += self.gated
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
        except Exception as error:  # a model may rely on a layer that a fold took away in any way it likes
            self.report.messages.append(f"nothing is folded: {type(error).__name__}: {error}")
            return self.model
        if not difference.passed:
            self.report.messages.append(
                "nothing is folded: the folded model differs from the model by "
                f"{difference.largest:.2g} of the largest logit"
            )
            return self.model
        self.report.folds = {"batch normalisations": folded.batch_norms, "dead taps": len(folded.dead_taps)}
        self.report.messages += [f"warning: {text}" for text in folded.warnings]
        return folded.model

    def _hybrids(self, kept: Mapping[str, Any] | None) -> Any:
        if kept is not None and isinstance(kept.get("hybrids"), dict):
            return kept["hybrids"]
        return {one: choose_hybrid_forms(self.folded, self.example, one) for one in self.precisions}

    def _ranking_kept(
        self, kept: Mapping[str, Any] | None, candidates: Mapping[str, Candidate]
    ) -> list[tuple[str, float]] | None:
        if kept is None:
            return None
        ranking = kept.get("ranking")
        if not isinstance(ranking, list):
            return None
        pairs = [(str(name), float(seconds)) for name, seconds in ranking if name in candidates]
        if len(pairs) != len(ranking):
            return None
        for name, seconds in pairs:
            self.trials[name] = Trial(name, seconds)
        return pairs

    def _prepare(self, candidate: Candidate) -> bool:
        """Build a form and prove it; False, with the reason among the trials, if it cannot be used."""
        if candidate.name in self.built:
            return True
        try:
            form = candidate.build()
            difference = self.parity.difference(form, candidate.precision, any_size=candidate.any_size)
        except Exception as error:  # whatever a library below raises is the reason that its form cannot be used
            words = str(error) if isinstance(error, ZooError) else f"{type(error).__name__}: {error}"
            reason = next(iter(words.splitlines()), "")
            self.trials[candidate.name] = self._trial(candidate.name, verdict=f"skipped: {reason[:300]}")
            return False
        verdict = (
            "slower" if difference.passed else f"skipped: differs by {difference.largest:.2g} of the largest logit"
        )
        self.trials[candidate.name] = self._trial(candidate.name, verdict, difference.largest)
        if difference.passed:
            self.built[candidate.name] = form
        return difference.passed

    def _trial(self, name: str, verdict: str, difference: float | None = None) -> Trial:
        before = self.trials.get(name, Trial(name))
        return Trial(name, before.seconds, before.difference if difference is None else difference, verdict)

    @torch.inference_mode()
    def _measure(self, candidates: Mapping[str, Candidate]) -> list[tuple[str, float]]:
        images = self._few_images()
        seconds: dict[str, float] = {}

        def run(names: Iterable[str]) -> dict[str, float]:
            return time_interleaved({name: partial(self.built[name], images) for name in names}, images.device)

        for candidate in candidates.values():
            if self._prepare(candidate):
                seconds |= run([candidate.name])
                # Each form holds weights of its own: those that are far behind go at once.
                for name in [name for name in self.built if seconds[name] > KEEP_WITHIN * min(seconds.values())]:
                    del self.built[name]
        seconds |= run(list(self.built))
        for name in seconds:
            seconds[name] *= len(self.example) / len(images)
            self.trials[name] = Trial(name, seconds[name], self.trials[name].difference)
        return sorted(seconds.items(), key=lambda pair: pair[1])

    def _few_images(self) -> Tensor:
        """As many images of the example as the folded model computes in :data:`PASS_SECONDS`, one at least."""
        seconds = time_interleaved({"one": partial(self.folded, self.example[:1])}, self.example.device)["one"]
        return self.example[: max(1, int(PASS_SECONDS / seconds))]

    def _choose(self, ranking: Sequence[tuple[str, float]], candidates: Mapping[str, Candidate]) -> Candidate | None:
        """The fastest form that is right; ``None`` if bf16 was asked for and no form of it is."""
        for candidate in (candidates[name] for name, _ in ranking):
            if self._prepare(candidate) and (candidate.precision == "fp32" or self._passes_gate(candidate)):
                return candidate
        if "fp32" not in self.precisions:
            return None
        # A ranking that was remembered holds what was right then; the model as it was always is.
        candidate = candidates[AS_IT_WAS]
        assert self._prepare(candidate)
        return candidate

    def _in_fp32(self, *, remembering: bool) -> OptimizedModel:
        """The search in float32, when bf16 was asked for in vain; its report says so."""
        search = _Search(self.model, self.example, "fp32", self.calibration, self.threshold)
        found = search.run(remembering=remembering)
        found.report.precision = self.precision
        found.report.messages[:0] = [*self.gated, "computing in fp32: no bf16 form can be used here"]
        found.report.trials += self.trials.values()
        return found

    def _passes_gate(self, candidate: Candidate) -> bool:
        if self.threshold is None:
            return True
        found = compare(self.model, self.built[candidate.name], self.calibration, self.threshold)
        where = "" if self.knows_patches else "; without calibration patches it was judged on the example and on noise"
        if found.passed:
            self.report.gate = found.to_dict()
            self.gated.append(f"bf16 passes the gate: {found}{where}")
            return True
        self.trials[candidate.name] = self._trial(candidate.name, "skipped: does not pass the gate")
        self.gated.append(f"{candidate.name} does not pass the gate: {found}{where}")
        return False
