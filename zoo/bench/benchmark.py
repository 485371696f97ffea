"""Definition of a benchmark (models with options, data and recipe), read from a TOML file."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, fields, replace
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any, TypeVar

from zoo.bench.config import ADAPTED_BY, AdaptationSettings, TrialConfig
from zoo.bench.paper import TABLES
from zoo.datasets.source import DataSource
from zoo.errors import ConfigError, UnknownNameError, ZooError, suggestion
from zoo.registry import catalogue, check_options, list_datasets
from zoo.schema import from_plain, read_toml
from zoo.training.recipes import FineTuning, Recipe, get_recipe

MAX_SEEDS = 1000
MAX_DEPTH = 20
"""Maximum nesting depth of tables and lists in a configuration."""
T = TypeVar("T")


@dataclass(frozen=True)
class ModelEntry:
    """A model of a benchmark.

    Attributes:
        model: registered name.
        options: options of the model.
        title: name of the row in tables; empty for the model's name and options.
        start: weights that training starts from; ``None`` for random weights.
    """

    model: str
    options: dict[str, Any] = field(default_factory=dict)
    title: str = ""
    start: FineTuning | None = None

    @property
    def label(self) -> str:
        """The title, or the model's name if there is no title, followed by the parent."""
        return self.title or (self.model if self.start is None else f"{self.model} from {self.start.parent}")

    def to_dict(self) -> dict[str, Any]:
        """Return the entry as plain JSON values, as stored in a results folder."""
        start = {} if self.start is None else {"from": self.start.parent, **self.start.identity()}
        return {"model": self.model, "options": self.options, "label": self.label, **start}


@dataclass(frozen=True)
class Setting:
    """Trials that share their patches.

    Attributes:
        name: name such as ``held out: S2``; empty if the benchmark has one setting.
        data: the data set, with the options that define the splits.
    """

    name: str
    data: DataSource


@dataclass(frozen=True)
class Benchmark:
    """Models, data and training settings that ``zoo bench`` compares.

    Attributes:
        name: name of the configuration (file name without suffix); empty for a benchmark defined only by options.
        title: title of the benchmark.
        models: models in the order of the table.
        data: the data set.
        recipe_name: name of a registered recipe.
        recipe_changes: fields of the recipe that are replaced.
        seeds: random seeds; there is one trial per model and seed.
        baseline: title of the row that the others are compared with; empty for none.
        paper: a key of :data:`zoo.bench.paper.TABLES`; empty for none.
        hold_out: regions that are used as the test split in turn; ``("all",)`` for every region, empty for none.
        adapt: how every trained model is adapted to the images of the test split and evaluated again; ``None`` for no
            adaptation.
        speed: whether to time the models after training.

    Raises:
        ZooError: if two models have the same label or are equal, the baseline is not among the labels, or there are too
            many seeds.
    """

    name: str
    title: str
    models: tuple[ModelEntry, ...]
    data: DataSource
    recipe_name: str
    recipe_changes: dict[str, Any]
    seeds: tuple[int, ...]
    baseline: str = ""
    paper: str = ""
    hold_out: tuple[str, ...] = ()
    adapt: AdaptationSettings | None = None
    speed: bool = True

    def __post_init__(self) -> None:
        labels = [entry.label for entry in self.models]
        for label in labels:
            if labels.count(label) > 1:
                raise ConfigError(f"two models are called {label!r}", where=self.name or None, hint="Give each a label")
        for place, entry in enumerate(self.models):
            for other in self.models[:place]:
                if (entry.model, entry.options, entry.start) == (other.model, other.options, other.start):
                    raise ConfigError(
                        f"two models are the same: {other.label!r} and {entry.label!r}",
                        where=self.name or None,
                        hint="Remove one of them",
                    )
        if self.baseline and self.baseline not in labels:
            raise UnknownNameError("baseline", self.baseline, labels, where=self.name or None)

    @property
    def recipe(self) -> Recipe:
        """The recipe with its changes."""
        return get_recipe(self.recipe_name).changed(**self.recipe_changes)

    def to_dict(self) -> dict[str, Any]:
        """Return the benchmark as plain JSON values, as stored in a results folder."""
        return {
            "name": self.name,
            "title": self.title,
            "models": [model.to_dict() for model in self.models],
            "data": self.data.to_dict(),
            "recipe": self.recipe.to_dict(),
            "seeds": list(self.seeds),
            "baseline": self.baseline,
            "paper": self.paper,
            "hold_out": list(self.hold_out),
            "adapt": self.adapt is not None and (self.adapt.to_dict() or True),
        }

    def with_recipe(self, name: str | None, overrides: Mapping[str, Any]) -> Benchmark:
        """Return the benchmark with another recipe, or with some of its fields replaced.

        Setting the steps clears the epochs, and vice versa.

        Args:
            name: name of a registered recipe, which replaces all values; ``None`` keeps the recipe.
            overrides: fields by name; ``None`` leaves a field unchanged.

        Raises:
            ZooError: if the recipe does not exist, or a value is out of range.
        """
        given = {label: value for label, value in overrides.items() if value is not None}
        kept = dict(self.recipe_changes) if name is None else {}
        for one, other in (("steps", "epochs"), ("epochs", "steps")):
            if one in given:
                kept.pop(other, None)
        changes = {**kept, **given}
        if "loss" in given and "loss_options" not in given:
            changes.pop("loss_options", None)
        recipe = get_recipe(name or self.recipe_name).changed(**changes)
        options = check_options(catalogue().losses.get(recipe.loss), recipe.loss_options)
        if options:
            changes["loss_options"] = options
        return replace(self, recipe_name=name or self.recipe_name, recipe_changes=changes)

    def selected(self, text: str) -> Benchmark:
        """Return the benchmark with only the models whose label or name is given or matches a shell pattern.

        Args:
            text: labels, names and patterns, separated by commas; ``all`` keeps every model.

        Raises:
            ZooError: if a word matches nothing; the message suggests the nearest labels.
        """
        patterns = [word.strip() for word in text.split(",") if word.strip()]
        chosen: list[ModelEntry] = []
        for word in patterns:
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
        """Return the trials of a setting: all models of the first seed, then of the next seed.

        Args:
            setting: one of :func:`settings_of`.
            fingerprints: fingerprint of each split.
            device: resolved device.
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
                    fine_tuning=entry.start,
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


def check_seeds(seeds: int | Sequence[int], where: object = None) -> tuple[int, ...]:
    """Return seeds as a tuple.

    Args:
        seeds: the seeds, or their number: 3 means 0, 1 and 2.
        where: location for error messages.

    Raises:
        ConfigError: if there are none or more than :data:`MAX_SEEDS`, or one is negative or given twice.
    """
    problem = ConfigError(
        f"seeds must be a number of seeds (1 to {MAX_SEEDS}), or different whole numbers of at least 0, not {seeds!r}",
        where=where,
    )
    if isinstance(seeds, bool) or (isinstance(seeds, int) and not 0 < seeds <= MAX_SEEDS):
        raise problem
    found = tuple(range(seeds)) if isinstance(seeds, int) else tuple(seeds)
    valid = all(isinstance(seed, int) and not isinstance(seed, bool) and 0 <= seed < 2**32 for seed in found)
    if not valid or not 0 < len(found) <= MAX_SEEDS or len(set(found)) < len(found):
        raise problem
    return found


def settings_of(benchmark: Benchmark) -> list[Setting]:
    """Return the only setting, or one setting for each held-out region.

    Raises:
        ZooError: if the data set does not support held-out regions, or has no such region.
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
            hint="hold_out needs a data set with the option test_groups or test_region, such as a folder of patches",
        )
    taken = {name for name in ("train_groups", "val_groups", option) if name in data.options}
    if taken:
        raise ConfigError(
            f"hold_out and {sorted(taken)[0]} both choose the test split", hint="Leave out one of the two"
        )
    known = _regions(data, option, declared[option].choices)
    names = known if benchmark.hold_out == ("all",) else list(benchmark.hold_out)
    for name in names:
        if name not in known:
            raise UnknownNameError("region", name, known, where="hold_out")
    if len(known) < 2:
        raise ConfigError(f"there is only one region, {known[0]}" if known else "there is no region", where="hold_out")
    value = (lambda name: [name]) if option == "test_groups" else (lambda name: name)
    return [
        Setting(f"held out: {name}", DataSource(data.name, {**data.options, option: value(name)})) for name in names
    ]


def _regions(data: DataSource, option: str, choices: Sequence[object]) -> list[str]:
    if option == "test_region":
        return [str(choice) for choice in choices if choice is not None]
    groups = {patch.group for dataset in data.open_splits().values() for patch in dataset.patches}
    return sorted(groups - {""})


# TOML files


@dataclass(frozen=True)
class _File:
    """Keys of a configuration file."""

    models: list[dict[str, Any]] = field(default_factory=list)
    title: str | None = None
    paper: str = ""
    baseline: str = ""
    seeds: int | list[int] = 1
    speed: bool = True
    data: str | dict[str, Any] = "synthetic"
    recipe: str | dict[str, Any] = "quick"
    hold_out: str | list[str] = field(default_factory=list)
    adapt: bool | dict[str, Any] = False


@dataclass(frozen=True)
class _ModelTable:
    model: str
    label: str = ""
    options: dict[str, Any] = field(default_factory=dict)
    parent: str = ""
    freeze: str | list[str] = field(default_factory=list)
    old_lr_factor: float = FineTuning.old_lr_factor


def load_benchmark(path: Path) -> Benchmark:
    """Read a configuration file.

    Raises:
        ZooError: if the file is invalid; the message names the file, table and key, and the nearest known name.
    """
    try:
        content = read_toml(path, hint="docs/how_to/bench.md shows an example")
    except FileNotFoundError:
        raise ConfigError("there is no such file", where=path, hint=_suggest_file(path)) from None
    return parse_benchmark(content, path)


def parse_benchmark(content: dict[str, Any], path: Path) -> Benchmark:
    """Return the benchmark defined by a parsed configuration.

    Args:
        content: the tables of the file.
        path: the file; relative data folders are resolved from its folder.

    Raises:
        ZooError: as :func:`load_benchmark`.
    """
    _check_depth(content, path)
    top = _typed(content, _File, str(path))
    if not top.models:
        raise ConfigError("names no model", where=path, hint="Add one or more [[models]] with a model = ...")
    models = tuple(
        _entry(table, path.parent, f"{path} [[models]] number {number}") for number, table in enumerate(top.models, 1)
    )
    if top.paper and top.paper not in TABLES:
        raise UnknownNameError("table", top.paper, TABLES, where=f"{path}: paper")
    recipe_name, recipe_changes = _recipe(top.recipe, f"{path} [recipe]")
    return Benchmark(
        name=path.stem,
        title=path.stem if top.title is None else top.title,
        models=models,
        data=_data(top.data, path.parent, f"{path} [data]"),
        recipe_name=recipe_name,
        recipe_changes=recipe_changes,
        seeds=check_seeds(top.seeds, path),
        baseline=top.baseline,
        paper=top.paper,
        hold_out=_hold_out(top.hold_out, path),
        adapt=_adaptation(top.adapt, f"{path} [adapt]"),
        speed=top.speed,
    )


def _typed(values: Mapping[str, Any], kind: type[T], where: str) -> T:
    """Return a table of the file as a dataclass; an unknown key is an error that suggests the nearest one."""
    known = [field.name for field in fields(kind)]  # type: ignore[arg-type]
    for key in values:
        if key not in known:
            raise UnknownNameError("key", key, known, where=where)
    return from_plain(dict(values), kind, what="table", where=where, error=ConfigError)


def _entry(table: dict[str, Any], folder: Path, where: str) -> ModelEntry:
    # ``from`` is a Python keyword, so it cannot be a field name.
    known = ("from", *(field.name for field in fields(_ModelTable) if field.name != "parent"))
    for key in table:
        if key not in known:
            raise UnknownNameError("key", key, known, where=where)
    found = _typed({"parent" if key == "from" else key: value for key, value in table.items()}, _ModelTable, where)
    _check_plain(found.options, f"{where}: options")
    with _error_location(where):
        options = check_options(catalogue().models.get(found.model), found.options)
        start = _parent(found, folder, where)
    return ModelEntry(found.model, options, found.label, start)


def _parent(table: _ModelTable, folder: Path, where: str) -> FineTuning | None:
    """Return the weights that a model starts from; a relative folder is resolved from the configuration's folder."""
    freeze = (table.freeze,) if isinstance(table.freeze, str) else tuple(table.freeze)
    if not table.parent:
        if freeze or table.old_lr_factor != FineTuning.old_lr_factor:
            raise ConfigError("freeze and old_lr_factor need weights to start from", hint="Add from = ...")
        return None
    path = _absolute(table.parent, folder, where)
    return FineTuning(table.parent, freeze, table.old_lr_factor, str(path) if path.exists() else "")


def _data(given: str | dict[str, Any], folder: Path, where: str) -> DataSource:
    options = {} if isinstance(given, str) else dict(given)
    name = given if isinstance(given, str) else options.pop("name", "synthetic")
    if not isinstance(name, str):
        raise ConfigError(f"name must be a string, not {name!r}", where=where)
    _check_plain(options, where)
    if name in catalogue().datasets:
        root = options.get("root")
        if isinstance(root, str):
            options["root"] = str(_absolute(root, folder, where))
        with _error_location(where):
            check_options(catalogue().datasets.get(name), {key: options[key] for key in options if key != "root"})
        return DataSource(name, options)
    path = _absolute(name, folder, where)
    if not path.is_dir() and "/" not in name and not name.startswith((".", "~")):
        raise UnknownNameError("data set or folder", name, list_datasets(), where=where)
    with _error_location(where):
        source = DataSource.parse(str(path), options)
        check_options(catalogue().datasets.get("folder"), options)
    return source


def _absolute(name: str, folder: Path, where: str) -> Path:
    """Return the absolute path of a folder named in a file in ``folder``."""
    try:
        path = (folder / Path(name).expanduser()).resolve()
        path.is_dir()
    except RuntimeError:
        raise ConfigError(f"the home folder of {name!r} is unknown", where=where) from None
    except (OSError, ValueError) as error:
        reason = error.strerror if isinstance(error, OSError) and error.strerror else str(error)
        raise ConfigError(f"is not a path ({reason.lower()})", where=f"{where}: {name[:60]!r}") from None
    return path


def _recipe(given: str | dict[str, Any], where: str) -> tuple[str, dict[str, Any]]:
    changes = {} if isinstance(given, str) else dict(given)
    name = given if isinstance(given, str) else changes.pop("name", "quick")
    if not isinstance(name, str):
        raise ConfigError(f"name must be a string, not {name!r}", where=where)
    known = [field.name for field in fields(Recipe) if field.name not in ("name", "summary")]
    for key in changes:
        if key not in known:
            raise UnknownNameError("key", key, ["name", *known], where=where)
    if "steps" in changes and "epochs" in changes:
        raise ConfigError("steps and epochs cannot be combined", where=where)
    with _error_location(where):
        recipe = get_recipe(name)
        # Check the names first: only the recipe knows the valid ones.
        recipe.changed(**{key: changes[key] for key in ("optimiser", "schedule", "precision") if key in changes})
        # Decoding checks the types and converts integers to floats for float fields.
        other = {"steps": "epochs", "epochs": "steps"}
        values = {**recipe.to_dict(), **{other[key]: None for key in changes if key in other}, **changes}
        whole_patches = type(values["crop"]) is int and values["crop"] == 0
        typed = from_plain(
            {**values, "crop": None if whole_patches else values["crop"]}, Recipe, what="recipe", error=ConfigError
        )
        changes = {key: 0 if key == "crop" and whole_patches else getattr(typed, key) for key in changes}
        changed = recipe.changed(**changes)
        options = check_options(catalogue().losses.get(changed.loss), changed.loss_options)
        if options:
            changes["loss_options"] = options
    return name, changes


def _hold_out(given: str | list[str], path: Path) -> tuple[str, ...]:
    found = [given] if isinstance(given, str) else given
    if not all(found) or len(set(found)) < len(found):
        raise ConfigError(f'hold_out must be a list of different regions, or "all", not {given!r}', where=path)
    return tuple(found)


def _adaptation(given: bool | dict[str, Any], where: str) -> AdaptationSettings | None:
    if isinstance(given, bool):
        return AdaptationSettings() if given else None
    by = given.get("by")
    if isinstance(by, str) and by not in ADAPTED_BY:
        raise UnknownNameError("way to adapt", by, ADAPTED_BY, where=f"{where}: by")
    found = _typed(given, AdaptationSettings, where)
    if found.scales != "auto" and found.scales != AdaptationSettings.scales:
        # Import torch only here, so that a file without scales does not need it.
        from zoo.training.predictor import check_scales

        with _error_location(where):
            return replace(found, scales=check_scales(found.scales))
    return found


def _check_depth(value: object, where: object, depth: int = 0) -> None:
    """Reject tables and lists that are nested too deeply."""
    if depth > MAX_DEPTH:
        raise ConfigError(f"is nested more than {MAX_DEPTH} levels deep", where=where)
    if isinstance(value, (dict, list)):
        for inner in value.values() if isinstance(value, dict) else value:
            _check_depth(inner, where, depth + 1)


def _check_plain(value: object, where: str) -> None:
    """Reject values that JSON does not support, such as dates."""
    if isinstance(value, dict):
        for key, inner in value.items():
            _check_plain(inner, f"{where}.{key}")
    elif isinstance(value, list):
        for inner in value:
            _check_plain(inner, where)
    elif not isinstance(value, (str, int, float, bool)):
        raise ConfigError(f"{value} is neither a string, a number, true nor false", where=where)


@contextmanager
def _error_location(where: str) -> Iterator[None]:
    """Prefix the location named in an error with the table of the file."""
    try:
        yield
    except ZooError as error:
        place = where if error.where is None else f"{where}: {error.where}"
        raise ConfigError(error.problem, where=place, hint=error.hint) from error


def _suggest_file(path: Path) -> str:
    folder = path.parent if path.parent.is_dir() else Path()
    return suggestion(path.name, [found.name for found in folder.glob("*.toml")])
