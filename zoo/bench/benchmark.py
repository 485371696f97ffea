"""A benchmark: which models with which options, on which data, by which recipe, compared with what."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from fnmatch import fnmatchcase
from typing import Any

from zoo.bench.config import Adapting, TrialConfig
from zoo.datasets.source import DataSource
from zoo.errors import ConfigError, UnknownNameError, ZooError, suggestion
from zoo.registry import catalogue
from zoo.training.recipes import Recipe, get_recipe


@dataclass(frozen=True)
class Entry:
    """A model of a benchmark.

    Attributes:
        model: registered name.
        options: of the model.
        title: what tables call it; empty for the name and the options.
    """

    model: str
    options: dict[str, Any] = field(default_factory=dict)
    title: str = ""

    @property
    def label(self) -> str:
        """The title, or the name where there is none."""
        return self.title or self.model


@dataclass(frozen=True)
class Benchmark:
    """What ``zoo bench`` runs.

    Attributes:
        name: of the configuration, its file's name without the suffix; empty when flags alone ask for it.
        title: for people.
        models: in the order of the table.
        data: where the patches come from.
        recipe_name: of a registered recipe.
        recipe_changes: fields of it that are replaced.
        seeds: one trial a model and seed.
        baseline: title of the row that the others are compared with; empty for none.
        paper: a key of :data:`zoo.bench.paper.TABLES`; empty for none.
        hold_out: regions of which each in turn is the test split; ``("all",)`` for all there are, empty for none.
        adapt: how every trained model is adapted to the images of the test split and measured a second time; ``None``
            for no second time.
        speed: measure speed after the training.
    """

    name: str
    title: str
    models: tuple[Entry, ...]
    data: DataSource
    recipe_name: str
    recipe_changes: dict[str, Any]
    seeds: tuple[int, ...]
    baseline: str = ""
    paper: str = ""
    hold_out: tuple[str, ...] = ()
    adapt: Adapting | None = None
    speed: bool = True

    def __post_init__(self) -> None:
        labels = [entry.label for entry in self.models]
        for label in labels:
            if labels.count(label) > 1:
                raise ConfigError(f"two models are called {label!r}", where=self.name or None, hint="Give each a label")
        if self.baseline and self.baseline not in labels:
            raise UnknownNameError("baseline", self.baseline, labels, where=self.name or None)

    @property
    def recipe(self) -> Recipe:
        """How to train."""
        return get_recipe(self.recipe_name).changed(**self.recipe_changes)

    def to_dict(self) -> dict[str, Any]:
        """What a results folder keeps of it, as plain JSON values."""
        return {
            "name": self.name,
            "title": self.title,
            "models": [{"model": one.model, "options": one.options, "label": one.label} for one in self.models],
            "data": self.data.to_dict(),
            "recipe": self.recipe.to_dict(),
            "seeds": list(self.seeds),
            "baseline": self.baseline,
            "paper": self.paper,
            "hold_out": list(self.hold_out),
            "adapt": self.adapt is not None and (self.adapt.to_dict() or True),
        }

    def with_recipe(self, name: str | None, overrides: Mapping[str, Any]) -> Benchmark:
        """The benchmark with another recipe, or with fields of its own replaced; steps and epochs replace each other.

        Args:
            name: of a registered recipe, whose own values then hold; ``None`` to keep what there is.
            overrides: fields by name; ``None`` leaves one as it is.

        Raises:
            ZooError: if the recipe does not exist, or a value is out of range.
        """
        given = {label: value for label, value in overrides.items() if value is not None}
        kept = dict(self.recipe_changes) if name is None else {}
        for one, other in (("steps", "epochs"), ("epochs", "steps")):
            if one in given:
                kept.pop(other, None)
        changed = replace(self, recipe_name=name or self.recipe_name, recipe_changes={**kept, **given})
        catalogue().losses.get(changed.recipe.loss)
        return changed

    def selected(self, text: str) -> Benchmark:
        """The benchmark with fewer models: those whose label or name is named or matches a shell pattern.

        Args:
            text: labels, names and patterns, separated by commas; ``all`` keeps every one.

        Raises:
            ZooError: for a word that matches nothing, with the nearest labels.
        """
        words = [word.strip() for word in text.split(",") if word.strip()]
        chosen: list[Entry] = []
        for word in words:
            found = [
                entry
                for entry in self.models
                if word == "all" or fnmatchcase(entry.label, word) or fnmatchcase(entry.model, word)
            ]
            if not found:
                known = [entry.label for entry in self.models]
                raise ZooError(f"no model of {self.name} is called {word!r}", hint=suggestion(word, known))
            chosen += [entry for entry in found if entry not in chosen]
        if not chosen:
            raise ZooError("no model was named", hint="Use --models all, labels, or a pattern")
        kept = self.baseline if any(entry.label == self.baseline for entry in chosen) else ""
        return replace(self, models=tuple(chosen), baseline=kept)

    def trials(self, setting: Setting, fingerprints: dict[str, str], device: str) -> list[TrialConfig]:
        """The trials of one setting, all models of a seed before those of the next.

        Args:
            setting: one of :func:`settings_of`.
            fingerprints: of the setting's splits.
            device: resolved.
        """
        found = []
        for seed in self.seeds:
            for entry in self.models:
                plain = TrialConfig(
                    entry.model,
                    entry.options,
                    setting.data,
                    fingerprints,
                    self.recipe,
                    seed,
                    device,
                    title=entry.title,
                    benchmark=self.name,
                    setting=setting.name,
                    paper=self.paper,
                    baseline=self.baseline,
                )
                found.append(plain)
                if self.adapt is not None:
                    found.append(replace(plain, adapted=True, adapting=self.adapt))
        return found


@dataclass(frozen=True)
class Setting:
    """Trials that share their patches.

    Attributes:
        name: such as ``held out: S2``; empty when a benchmark has one setting alone.
        data: with the options that make the splits.
    """

    name: str
    data: DataSource


def settings_of(benchmark: Benchmark) -> list[Setting]:
    """One setting, or one for each region that is held out.

    Raises:
        ZooError: if the data set cannot hold out regions, or has no such one.
    """
    if not benchmark.hold_out:
        return [Setting("", benchmark.data)]
    data = benchmark.data
    declared = {option.name: option for option in catalogue().datasets.get(data.name).options}
    option = next((name for name in ("test_groups", "test_region") if name in declared), None)
    if option is None:
        raise ConfigError(
            "has no regions that can be held out",
            where=f"data set {data.name!r}",
            hint="hold_out needs a data set with the option test_groups or test_region; a folder of patches has it",
        )
    taken = {name for name in ("train_groups", "val_groups", option) if name in data.options}
    if taken:
        raise ConfigError(f"hold_out and {sorted(taken)[0]} both say what is tested", hint="Leave one of the two out")
    known = _regions(data, option, declared[option].choices)
    names = known if benchmark.hold_out == ("all",) else list(benchmark.hold_out)
    for name in names:
        if name not in known:
            raise UnknownNameError("region", name, known, where="hold_out")
    if len(known) < 2:
        raise ConfigError(f"there is one region alone, {known[0]}" if known else "there is no region", where="hold_out")
    value = (lambda name: [name]) if option == "test_groups" else (lambda name: name)
    return [
        Setting(f"held out: {name}", DataSource(data.name, {**data.options, option: value(name)})) for name in names
    ]


def _regions(data: DataSource, option: str, choices: tuple[object, ...]) -> list[str]:
    if option == "test_region":
        return [str(choice) for choice in choices if choice is not None]
    groups = {patch.group for split in ("train", "val", "test") for patch in data.open(split).patches}
    return sorted(groups - {""})
