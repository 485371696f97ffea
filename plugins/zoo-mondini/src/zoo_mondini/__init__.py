"""Registers ``mondini_rain`` for images and ``mondini`` for tables.

The targets are names, so that listing them imports neither torch nor scikit-learn.
"""

from __future__ import annotations

from zoo.registry import Choice, Flag, ModelSpec, Option, RiskModelSpec, hookimpl
from zoo.registry.hookspecs import RegisterModel, RegisterRiskModel

PAPER = "Mondini, Guzzetti and Melillo 2023, Nature Communications 14, 2466"
DOI = "10.1038/s41467-023-38135-y"
SUMMARY_OF_PAPER = "summary of 10.1038/s41467-023-38135-y at researchbunny.com"

PROVENANCE = (
    Choice(
        "P",
        "Supervised binary classification by a deep network of what does and does not trigger shallow landslides.",
        "section 3.5.3",
    ),
    Choice("S", "The network sees hourly rainfall histories and nothing else.", SUMMARY_OF_PAPER),
    Choice("S", "P(F | R, S) = P(F | R) c, where c leaves out places where no landslide can occur.", SUMMARY_OF_PAPER),
    Choice(
        "O",
        "c is a sigmoid of the slope with a learned threshold and width, never falling with the slope. The estimator "
        "takes a threshold in degrees as well, below which c is 0.",
        "what [54] masks with was not at hand",
    ),
    Choice(
        "O",
        "72 hours of history, latest first.",
        "the length in [54] was not at hand",
    ),
    Choice(
        "O",
        "Two series enter: rain of each hour, and depth from that hour until now, both as ln(1 + mm). The second is "
        "the axis of a depth-duration threshold.",
        "own design",
    ),
    Choice(
        "O",
        "Three convolutions along time (kernel 5, stride 2; 8, 16, 16 maps), then 32 units, ReLU between them.",
        "the layers of [54] were not at hand",
    ),
    Choice("O", "Two-class logits are ln(1 - p) and ln p, so that a softmax gives back p exactly.", "own design"),
)

MONDINI_RAIN = ModelSpec(
    name="mondini_rain",
    target="zoo_mondini.model:MondiniRain",
    summary="NEEDS RAIN: hourly rainfall history x slope mask, no image network",
    paper=PAPER,
    doi=DOI,
    provenance=PROVENANCE,
    options=(
        Option("hours", 72, "Length of the rainfall history."),
        Option("width", 8, "Maps of the first convolution; the others scale with it."),
        Option("slope_band", None, "Index of the slope; None for band 4 of the paper's seven, or the only band."),
    ),
    parameters=6_715,
    flags=frozenset({Flag.NEEDS_RAIN, Flag.BATCH1_TRAINING}),
)

MONDINI = RiskModelSpec(
    name="mondini",
    title="Rainfall history x slope mask [54]",
    target="zoo_mondini.estimator:MondiniClassifier",
    summary="needs columns P_t-1, P_t-2, ... with the rain of each hour before, and slope",
    plain=True,
    unsupported_reason="zoo_mondini.history:unsupported_reason",
    source="[P] section 3.5.3",
)


@hookimpl
def zoo_register_models(register: RegisterModel) -> None:
    """Register ``mondini_rain``."""
    register(MONDINI_RAIN)


@hookimpl
def zoo_register_risk_models(register: RegisterRiskModel) -> None:
    """Register ``mondini`` for ``zoo risk compare``."""
    register(MONDINI)
