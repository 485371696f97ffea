"""Configuration of one trial: a model, data, a recipe, a seed and a device."""

from __future__ import annotations

import hashlib
import json
from dataclasses import asdict, dataclass, field, replace
from fnmatch import fnmatchcase
from typing import Any, Literal, get_args

from zoo.datasets.source import DataSource
from zoo.errors import ZooError, suggestion
from zoo.files import file_name
from zoo.registry import catalogue, list_models
from zoo.training.recipes import FineTuning, Recipe

AdaptedBy = Literal["split", "group"]
ADAPTED_BY: tuple[AdaptedBy, ...] = get_args(AdaptedBy)
_NAMING = ("title", "benchmark", "setting", "paper", "baseline")


@dataclass(frozen=True)
class AdaptationSettings:
    """Settings for adapting a trained model to the images of a test split (:mod:`zoo.training.adaptation`).

    Attributes:
        by: ``split`` adapts to all images together; ``group`` adapts to each scene or event separately and evaluates it
            separately, as if each were mapped with its own bundle.
        scales: magnifications applied to every image by the adapted model, or ``auto`` to choose one.
        tta: whether to average the adapted model's probability over the eight flips and rotations of each image.
    """

    by: AdaptedBy = "split"
    scales: tuple[float, ...] | Literal["auto"] = (1.0,)
    tta: bool = False

    def __post_init__(self) -> None:
        if self.scales != "auto":
            object.__setattr__(self, "scales", tuple(float(scale) for scale in self.scales))

    def __str__(self) -> str:
        """Return a description of the settings that differ from the defaults; empty if none do."""
        scales = self.scales if self.scales == "auto" else ",".join(f"{scale:g}" for scale in self.scales)
        texts = {"by": f"to each {self.by}", "scales": f"magnified {scales}", "tta": "mean over flips and rotations"}
        return ", ".join(text for name, text in texts.items() if name in self.to_dict())

    def to_dict(self) -> dict[str, Any]:
        """Return the settings that differ from the defaults as plain JSON values."""
        scales = self.scales if self.scales == "auto" else list(self.scales)
        values = {"by": self.by, "scales": scales, "tta": self.tta}
        return {name: values[name] for name in values if getattr(self, name) != getattr(AdaptationSettings, name)}


@dataclass(frozen=True)
class TrialConfig:
    """Configuration of a trial. Two trials with the same key give the same result, except for timings.

    Attributes:
        model: registered name.
        options: options of the model.
        data: the data set.
        fingerprints: sha256 of the content of each split.
        recipe: training recipe.
        seed: seed of the weights, the order of the patches and the augmentation.
        device: resolved device, such as ``cpu`` or ``cuda:0``.
        adapted: do not train; adapt the bundle of the corresponding trained trial to the images of the test split,
            without their masks.
        adapting: settings of the adaptation.
        fine_tuning: weights that training starts from; ``None`` for random weights.
        title: name of the row in tables; empty for the model's name and options.
        benchmark: name of the configuration that the trial belongs to; empty if there is none.
        setting: setting of the configuration, such as the held-out region; empty if there is only one.
        paper: table of the paper whose row with the same title is shown next to ours; empty for none.
        baseline: title of the row that the others are compared with; empty for none.
    """

    model: str
    options: dict[str, Any]
    data: DataSource
    fingerprints: dict[str, str]
    recipe: Recipe
    seed: int
    device: str
    adapted: bool = False
    adapting: AdaptationSettings = field(default_factory=AdaptationSettings)
    fine_tuning: FineTuning | None = None
    title: str = ""
    benchmark: str = ""
    setting: str = ""
    paper: str = ""
    baseline: str = ""

    @property
    def key(self) -> str:
        """Sixteen hex digits of a hash over everything that a result depends on, without names and file locations."""
        content = self.to_dict()
        for name in ("data", *_NAMING):
            content.pop(name, None)
        if self.fine_tuning is not None:
            content["fine_tuning"] = self.fine_tuning.identity()
        text = json.dumps(content, sort_keys=True)
        return hashlib.sha256(text.encode()).hexdigest()[:16]

    @property
    def file_stem(self) -> str:
        """Stem of the trial's file names: readable, and unique because it contains the key."""
        adapted = "-adapted" if self.adapted else ""
        return f"{file_name(self.model)}{adapted}-{self.data.name}-s{self.seed}-{self.key}"

    @property
    def label(self) -> str:
        """The title, or the model's name with its options or its parent; adapted trials are marked as such."""
        shown = ",".join(f"{name}={value}" for name, value in sorted(self.options.items()))
        plain = self.title or (f"{self.model}({shown})" if shown else self.model)
        if not self.title and self.fine_tuning is not None:
            # The options of the architecture come from the parent.
            plain = f"{self.model} from {self.fine_tuning.parent}"
        return f"{plain} (adapted)" if self.adapted else plain

    @property
    def plain(self) -> TrialConfig:
        """The trial whose bundle an adapted trial starts from; for a trained trial, itself."""
        return replace(self, adapted=False, adapting=AdaptationSettings())

    def to_dict(self) -> dict[str, Any]:
        """Return plain JSON values; fields that the first version lacked are included only if they are set."""
        values = {
            "model": self.model,
            "options": self.options,
            "data": self.data.to_dict(),
            "fingerprints": self.fingerprints,
            "recipe": self.recipe.to_dict(),
            "seed": self.seed,
            "device": self.device,
        }
        later = {name: getattr(self, name) for name in ("adapted", *_NAMING)}
        later["adapting"] = self.adapting.to_dict()
        later["fine_tuning"] = None if self.fine_tuning is None else asdict(self.fine_tuning)
        return {**values, **{name: value for name, value in later.items() if value}}


def select_models(text: str) -> list[str]:
    """Return the registered models that a text selects, without duplicates, in the order of the text.

    Args:
        text: names and shell patterns, separated by commas; ``all`` for every model that was registered individually.
            A pattern matches the models of a family only if it contains a ``/``, such as ``smp/unet-resnet*``, because
            a family has hundreds of models.

    Raises:
        ZooError: if a name or pattern matches nothing; the message suggests the nearest names.
    """
    chosen: dict[str, None] = {}
    known = [spec.name for spec in catalogue().models.match()]
    for word in (part.strip() for part in text.split(",")):
        if not word:
            continue
        if word == "all":
            found = known
        elif not any(sign in word for sign in "*?["):
            found = [catalogue().models.get(word).name]
        else:
            found = list_models(word) if "/" in word else [name for name in known if fnmatchcase(name, word)]
        if not found:
            raise ZooError(f"no model matches {word!r}", hint=suggestion(word.strip("*?"), known))
        chosen.update(dict.fromkeys(found))
    if not chosen:
        raise ZooError("no model was named", hint="Use --models all, names, or a pattern such as '*unet*'")
    return list(chosen)
