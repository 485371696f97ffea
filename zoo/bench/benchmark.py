"""A benchmark as a file: which models with which options, on which data, by which recipe, compared with what.

One TOML file is one table. Every key is checked for its name and type before anything is opened.
"""

from __future__ import annotations

import tomllib
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field, fields, replace
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any, get_args, get_type_hints

from zoo.bench.config import DataSource, TrialConfig
from zoo.bench.paper import TABLES
from zoo.errors import ConfigError, UnknownNameError, ZooError, suggestion
from zoo.registry import catalogue, check_options, list_datasets
from zoo.training.recipes import Recipe, get_recipe

MANY_SEEDS = 1000
_WORDS = {int: "a whole number", float: "a number", bool: "true or false", str: "a text"}


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
        adapt: measure every trained model a second time, adapted to the images of the test split.
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
    adapt: bool = False
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
            "adapt": self.adapt,
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
                found += [plain, replace(plain, adapted=True)] if self.adapt else [plain]
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


def load_benchmark(path: Path) -> Benchmark:
    """Read a configuration.

    Raises:
        ZooError: naming the file, the table and the key that is wrong, with the nearest name where one is unknown.
    """
    try:
        content = tomllib.loads(path.read_text(encoding="utf-8"))
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise ConfigError(f"is no TOML ({error})", where=path, hint="docs/bench.md shows how one looks") from error
    except FileNotFoundError:
        raise ConfigError("there is no such file", where=path, hint=_nearby(path)) from None
    except OSError as error:
        raise ConfigError(f"cannot be read ({(error.strerror or str(error)).lower()})", where=path) from error
    return parse_benchmark(content, path)


def parse_benchmark(content: dict[str, Any], path: Path) -> Benchmark:
    """A configuration that has been read; relative folders of data are taken from where ``path`` lies.

    Raises:
        ZooError: as :func:`load_benchmark`.
    """
    top = _Table(content, str(path))
    models = tuple(_entry(table) for table in top.tables("models"))
    if not models:
        raise ConfigError("names no model", where=path, hint="Add one or more [[models]] with a model = ...")
    paper = top.text("paper", "")
    if paper and paper not in TABLES:
        raise UnknownNameError("table", paper, TABLES, where=f"{path}: paper")
    recipe_name, recipe_changes = _recipe(top.named("recipe"))
    benchmark = Benchmark(
        name=path.stem,
        title=top.text("title", path.stem),
        models=models,
        data=_data(top.named("data"), path.parent),
        recipe_name=recipe_name,
        recipe_changes=recipe_changes,
        seeds=_seeds(top),
        baseline=top.text("baseline", ""),
        paper=paper,
        hold_out=_hold_out(top),
        adapt=top.flag("adapt", False),
        speed=top.flag("speed", True),
    )
    top.close()
    return benchmark


class _Table:
    """A table of the file that gives its values by type, and in the end complains of those nobody asked for."""

    def __init__(self, values: Mapping[str, Any], where: str) -> None:
        self.values = values
        self.where = where
        self.asked: set[str] = set()

    def get(self, key: str, kinds: tuple[type, ...], words: str, default: Any = None) -> Any:
        self.asked.add(key)
        if key not in self.values:
            return default
        value = self.values[key]
        # A bool is an int to Python, and never to the author of a file.
        if not isinstance(value, kinds) or (isinstance(value, bool) and bool not in kinds):
            raise ConfigError(f"{key} must be {words}, not {value!r}", where=self.where)
        return value

    def text(self, key: str, default: str | None = None) -> str:
        value = self.get(key, (str,), "a text", default)
        if value is None:
            raise ConfigError(f"lacks the key {key}", where=self.where)
        return str(value)

    def flag(self, key: str, default: bool) -> bool:
        return bool(self.get(key, (bool,), "true or false", default))

    def table(self, key: str) -> _Table:
        value = self.get(key, (dict,), "a table", {})
        return _Table(value, f"{self.where} [{key}]")

    def named(self, key: str) -> _Table:
        """A table with a name in it, or the name alone."""
        value = self.get(key, (dict, str), "a name or a table", {})
        return _Table({"name": value} if isinstance(value, str) else value, f"{self.where} [{key}]")

    def tables(self, key: str) -> Iterable[_Table]:
        found = self.get(key, (list,), "a list of tables", [])
        for number, values in enumerate(found, 1):
            if not isinstance(values, dict):
                raise ConfigError(f"{key} must be a list of tables, not of {values!r}", where=self.where)
            yield _Table(values, f"{self.where} [[{key}]] number {number}")

    def rest(self) -> dict[str, Any]:
        found = {key: value for key, value in self.values.items() if key not in self.asked}
        self.asked.update(found)
        for key, value in found.items():
            _check_plain(value, f"{self.where}: {key}")
        return found

    def close(self) -> None:
        for key in self.values:
            if key not in self.asked:
                raise UnknownNameError("key", key, self.asked, where=self.where)


def _entry(table: _Table) -> Entry:
    name = table.text("model")
    options = dict(table.table("options").rest())
    title = table.text("label", "")
    table.close()
    with _at(table.where):
        check_options(catalogue().models.get(name), options)
    return Entry(name, options, title)


def _data(table: _Table, folder: Path) -> DataSource:
    name = table.text("name", "synthetic")
    options = table.rest()
    if name in catalogue().datasets:
        root = options.get("root")
        if isinstance(root, str):
            options["root"] = str((folder / Path(root).expanduser()).resolve())
        with _at(table.where):
            check_options(catalogue().datasets.get(name), {key: options[key] for key in options if key != "root"})
        return DataSource(name, options)
    path = folder / Path(name).expanduser()
    if not path.is_dir() and "/" not in name and not name.startswith((".", "~")):
        raise UnknownNameError("data set or folder", name, list_datasets(), where=table.where)
    with _at(table.where):
        source = DataSource.parse(str(path), options)
        check_options(catalogue().datasets.get("folder"), options)
    return source


def _recipe(table: _Table) -> tuple[str, dict[str, Any]]:
    name = table.text("name", "quick")
    with _at(table.where):
        recipe = get_recipe(name)
    hints = get_type_hints(Recipe)
    changes: dict[str, Any] = {}
    for one in fields(Recipe):
        if one.name in ("name", "summary"):
            continue
        hint = hints[one.name]
        # Of a Literal the arguments are texts: which ones, the recipe says itself.
        kinds = tuple(kind for kind in get_args(hint) or (hint,) if kind in _WORDS) or (str,)
        words = _WORDS[kinds[0]]
        kinds = (*kinds, int) if float in kinds else kinds
        value = table.get(one.name, kinds, words)
        if value is not None:
            changes[one.name] = float(value) if float in kinds else value
    table.close()
    if "steps" in changes and "epochs" in changes:
        raise ConfigError("steps and epochs exclude each other", where=table.where)
    with _at(table.where):
        catalogue().losses.get(recipe.changed(**changes).loss)
    return name, changes


def _seeds(top: _Table) -> tuple[int, ...]:
    seeds = top.get("seeds", (int, list), "a number or a list of numbers", 1)
    found = list(range(seeds)) if isinstance(seeds, int) else seeds
    whole = all(isinstance(seed, int) and not isinstance(seed, bool) and seed >= 0 for seed in found)
    if not whole or not 0 < len(found) <= MANY_SEEDS or len(set(found)) < len(found):
        raise ConfigError(
            f"seeds must be their number, or different whole numbers from 0, not {seeds!r}", where=top.where
        )
    return tuple(found)


def _hold_out(top: _Table) -> tuple[str, ...]:
    names = top.get("hold_out", (str, list), 'a list of regions, or "all"', [])
    found = [names] if isinstance(names, str) else names
    if not all(isinstance(name, str) and name for name in found) or len(set(found)) < len(found):
        raise ConfigError(f'hold_out must be a list of different regions, or "all", not {names!r}', where=top.where)
    return tuple(found)


def _check_plain(value: object, where: str) -> None:
    if isinstance(value, dict):
        for key, inner in value.items():
            _check_plain(inner, f"{where}.{key}")
    elif isinstance(value, list):
        for inner in value:
            _check_plain(inner, where)
    elif not isinstance(value, (str, int, float, bool)):
        raise ConfigError(f"{value} is neither text, number, true nor false", where=where)


@contextmanager
def _at(where: str) -> Iterator[None]:
    """Say in which table of the file something is wrong, before what says what it is."""
    try:
        yield
    except ZooError as error:
        place = where if error.where is None else f"{where}: {error.where}"
        raise ConfigError(error.problem, where=place, hint=error.hint) from error


def _nearby(path: Path) -> str:
    folder = path.parent if path.parent.is_dir() else Path()
    return suggestion(path.name, [found.name for found in folder.glob("*.toml")])
