"""Reading a benchmark from its TOML file: every key is checked for its name and type before anything is opened."""

from __future__ import annotations

import tomllib
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import fields
from pathlib import Path
from typing import Any, get_args, get_type_hints

from zoo.bench.benchmark import Benchmark, Entry
from zoo.bench.config import ADAPTED_BY, Adapting
from zoo.bench.paper import TABLES
from zoo.datasets.source import DataSource
from zoo.errors import ConfigError, UnknownNameError, ZooError, suggestion
from zoo.registry import catalogue, check_options, list_datasets
from zoo.training.recipes import Recipe, get_recipe

MANY_SEEDS = 1000
_WORDS = {int: "a whole number", float: "a number", bool: "true or false", str: "a text"}


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
        adapt=_adapting(top),
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
        options = check_options(catalogue().models.get(name), options)
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


def _adapting(top: _Table) -> Adapting | None:
    given = top.get("adapt", (bool, dict), "true, false or a table", False)
    if isinstance(given, bool):
        return Adapting() if given else None
    table = _Table(given, f"{top.where} [adapt]")
    named = table.text("by", Adapting.by)
    by = next((one for one in ADAPTED_BY if one == named), None)
    if by is None:
        raise UnknownNameError("way to adapt", named, ADAPTED_BY, where=f"{table.where}: by")
    scales = table.get("scales", (str, list), '"auto" or a list of numbers', [1])
    table.close()
    if scales == "auto":
        return Adapting(by, "auto")
    if not isinstance(scales, list) or not all(type(scale) in (int, float) for scale in scales):
        raise ConfigError(f'scales must be "auto" or a list of numbers, not {scales!r}', where=table.where)
    # Torch is imported for this alone, and not by a file without scales.
    from zoo.training.predictor import check_scales

    with _at(table.where):
        return Adapting(by, check_scales(scales))


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
