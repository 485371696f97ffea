"""What was tried to make a model fast, and what came of it."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field
from typing import Any

CHOSEN = "chosen"


@dataclass(frozen=True)
class Trial:
    """One form of a model.

    Attributes:
        name: the form, in words.
        seconds: least of a pass over the example; ``None`` if it was not timed.
        difference: largest difference of a logit from the model's, relative to the largest logit; ``None`` if it
            never ran.
        verdict: ``chosen``, or why it was not.
    """

    name: str
    seconds: float | None = None
    difference: float | None = None
    verdict: str = "slower"


@dataclass
class OptimizationReport:
    """What :func:`zoo.deploy.optimize` found.

    Attributes:
        model: class of the model.
        shape: of the example.
        device: computed on.
        precision: asked for.
        chosen: name of the form.
        trials: all forms, those that cannot be used here included.
        folds: what was folded, and how often.
        hybrids: form of each hybrid convolution, by its name.
        remembered: whether the choice was made by an earlier measurement.
        gate: what the chosen bf16 form did to the masks; ``None`` for fp32.
        messages: what a user should know.
    """

    model: str
    shape: tuple[int, ...]
    device: str
    precision: str
    chosen: str = ""
    trials: list[Trial] = field(default_factory=list)
    folds: dict[str, int] = field(default_factory=dict)
    hybrids: dict[str, str] = field(default_factory=dict)
    remembered: bool = False
    gate: dict[str, Any] | None = None
    messages: list[str] = field(default_factory=list)

    def to_dict(self) -> dict[str, Any]:
        """Plain JSON values."""
        return {**asdict(self), "shape": list(self.shape)}

    def lines(self) -> list[str]:
        """The report for people, a line an entry."""
        size = "x".join(map(str, self.shape))
        how = "as measured before" if self.remembered else "by measuring"
        lines = [f"{self.model} on {size}, {self.device}: {self.chosen} ({how})"]
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
        return lines + self.messages

    def __str__(self) -> str:
        return "\n".join(self.lines())
