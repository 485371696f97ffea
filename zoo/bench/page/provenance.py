"""Where the figures come from: data, recipe, machine, every trial, and the commands that give them again."""

from __future__ import annotations

import json
import shlex
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from zoo.bench.page.data import Setting
from zoo.bench.page.markup import Child, Element, table, tag
from zoo.bench.results import FOLDER, TrialResult
from zoo.bench.runner import BUNDLES
from zoo.datasets.audit import KINDS
from zoo.datasets.source import DataSource
from zoo.training.recipes import RECIPES, Recipe

GROUPS = ("train_groups", "val_groups", "test_groups")
TEXTS = ("group_column", "group_pattern", "split_by")
FIELDS = ("steps", "epochs", "batch_size", "crop", "lr", "loss", "precision", "time_limit")


def provenance(setting: Setting, folder: Path) -> list[Element]:
    """Sections on data, training, machine, reproduction and trials."""
    config = setting.results[0].config
    return [
        tag("h3", "Data and split"),
        _data(setting.results),
        tag("h3", "Training"),
        tag("dl", *_terms(_recipe(config.recipe))),
        tag("h3", "Machine and software"),
        *_machines(setting.results),
        tag("h3", "How to get every number again"),
        *_commands(setting, folder),
        tag("details", tag("summary", "Every trial"), _trials(setting.results)),
    ]


def bench_command(results: Sequence[TrialResult], folder: str) -> str:
    """The ``zoo bench`` that runs the trials of a setting again.

    Args:
        results: of one setting.
        folder: for ``--out``.
    """
    config = results[0].config
    words = ["zoo", "bench"]
    if config.benchmark:
        words += ["--config", f"benchmarks/{config.benchmark}.toml"]
    else:
        words += ["--models", ",".join(dict.fromkeys(result.config.model for result in results))]
        words += _data_words(config.data)
        words += _recipe_words(config.recipe)
    seeds = {result.config.seed for result in results}
    # A configuration may list seeds of its own, which no flag can name.
    if not config.benchmark or seeds == set(range(len(seeds))):
        words += ["--seeds", str(max(seeds) + 1)]
    return shlex.join([*words, "--device", config.device, "--out", folder])


def _data_words(data: DataSource) -> list[str]:
    options = dict(data.options)
    root = options.pop("root", None)
    words = ["--data", str(root) if data.name == "folder" and root else data.name]
    if data.name != "folder" and root:
        options["root"] = root
    for name, value in options.items():
        flag = f"--{name.replace('_', '-')}"
        if name in GROUPS and isinstance(value, list):
            words += [flag, ",".join(map(str, value))]
        elif name in TEXTS and isinstance(value, str):
            words += [flag, value]
        else:
            words += ["--data-option", f"{name}={json.dumps(value)}"]
    return words


def _recipe_words(recipe: Recipe) -> list[str]:
    name = recipe.name.partition("[")[0]
    words = ["--recipe", name]
    known = RECIPES.get(name)
    for field in FIELDS if known else ():
        value = getattr(recipe, field)
        if value != getattr(known, field) and (value is not None or field == "crop"):
            words += [f"--{field.replace('_', '-')}", "0" if value is None else str(value)]
    return words


def _data(results: Sequence[TrialResult]) -> Element:
    config, measured = results[0].config, next((result.measured for result in results if result.ok), None)
    terms: list[tuple[str, Child]] = [("data set", config.data.label)]
    terms += [(f"option {name}", json.dumps(value)) for name, value in config.data.options.items() if name != "root"]
    if config.setting:
        terms.append(("held out", config.setting))
    if measured is not None:
        data, names = measured["data"], measured["test"]["groups"]
        patches = data["patches"]
        terms += [
            ("patches", f"{patches['train']} to train, {patches['val']} to validate, {patches['test']} to test"),
            ("scenes or events tested", ", ".join(dict.fromkeys(map(str, names)))),
            ("patch", " x ".join(map(str, data["patch"])) + " (channels, height, width)"),
            ("pixel", "unknown" if data["pixel_size"] is None else f"{data['pixel_size']:g} m"),
            ("channels", ", ".join(f"{band['name']} ({band['unit']})" for band in data["bands"])),
            ("classes", ", ".join(map(str, data["class_names"]))),
        ]
        notes = data["split_notes"] or ["none: loading the splits raised no doubt"]
        terms.append(("notes on the split", "; ".join(map(str, notes))))
    terms += [(f"sha256 of {split}", tag("code", value)) for split, value in config.fingerprints.items()]
    terms += _audit(results)
    return tag("dl", *_terms(terms))


def _audit(results: Sequence[TrialResult]) -> list[tuple[str, Child]]:
    """The verdict, who touches whom, and the command that names every pair."""
    found = next((audit for result in results if (audit := result.audit) is not None), None)
    terms: list[tuple[str, Child]] = []
    if found is None:
        terms.append(("audit of the splits", "not in these result files, which an earlier version wrote"))
    else:
        terms.append(("audit of the splits", found.verdict))
        touching = [
            f"{entry.patches:,} {entry.second} patches touch {entry.first}: {KINDS[entry.kind]} ({entry.kind})"
            for entry in found.touched
            if entry.kind in KINDS
        ]
        if touching:
            terms.append(("what leaks", "; ".join(touching)))
    command = shlex.join(["zoo", "audit", *_data_words(results[0].config.data)[1:]])
    return [*terms, ("every pair that touches", tag("code", command))]


def _recipe(recipe: Recipe) -> list[tuple[str, Child]]:
    values = recipe.to_dict()
    summary = "" if "[" in recipe.name else f": {recipe.summary}"
    if recipe.time_limit is not None:
        values["time_limit"] = f"{recipe.time_limit:g} s a trial"
    rest = {name: value for name, value in values.items() if name not in ("name", "summary") and value is not None}
    return [
        ("recipe", f"{recipe.name}{summary}"),
        *((name.replace("_", " "), _said(value)) for name, value in rest.items()),
    ]


def _machines(results: Sequence[TrialResult]) -> list[Element]:
    environments: dict[str, list[str]] = {}
    for result in results:
        if result.ok:
            text = json.dumps(result.measured["environment"], sort_keys=True)
            environments.setdefault(text, []).append(f"{result.config.label} #{result.config.seed}")
    parts: list[Element] = []
    for text, trials in environments.items():
        environment = json.loads(text)
        versions = environment.pop("versions", {})
        terms = [(name.replace("_", " "), str(value)) for name, value in environment.items()]
        terms.append(("software", ", ".join(f"{name} {version}" for name, version in versions.items())))
        if len(environments) > 1:
            terms.insert(0, ("trials", ", ".join(trials)))
        parts.append(tag("dl", *_terms(terms)))
    protocol = next((found for one in results if (found := one.measured.get("speed_protocol"))), None)
    if protocol is not None:
        told = [(name.replace("_", " "), _plain(value)) for name, value in protocol.items() if _is_short(value)]
        parts.append(tag("details", tag("summary", "How speed was measured"), tag("dl", *_terms(told))))
    return parts or [tag("p", "No trial of this table has figures.")]


def _commands(setting: Setting, folder: Path) -> list[Element]:
    good = next((result for result in setting.results if result.ok and not result.config.adapted), None)
    place = folder.name or "results"
    lines = [
        ("train, measure and time all models again", bench_command(setting.results, place)),
        (
            "the table from the result files, every figure unrounded",
            shlex.join(["zoo", "report", place, "--format", "csv"]),
        ),
        ("this page", shlex.join(["zoo", "report", place, "--html", "report.html"])),
    ]
    if good is not None:
        bundle = f"{place}/{BUNDLES}/{good.config.file_stem}"
        lines.insert(2, ("one model's figures from its weights", shlex.join(["zoo", "evaluate", bundle])))
    if not setting.results[0].config.benchmark:
        lines.insert(3, ("speed alone", shlex.join(["zoo", "speed", ",".join(_models(setting.results))])))
    text = "\n".join(f"# {what}\n{command}" for what, command in lines)
    note = (
        "With the same data (sha256), seeds and number format, figures are the same on the same kind of machine; "
        "another one may round differently. Times are those of this machine and hour."
    )
    return [
        tag("pre", tag("code", text), tabindex="0"),
        tag("p", note, class_="note"),
    ]


def _models(results: Iterable[TrialResult]) -> list[str]:
    return list(dict.fromkeys(result.config.model for result in results))


def _trials(results: Sequence[TrialResult]) -> Element:
    cells: list[list[Child]] = []
    for result in results:
        measured = result.measured
        trained = measured.get("training", {})
        cells.append(
            [
                result.config.label,
                str(result.config.seed),
                result.status,
                str(trained.get("steps", "–")),
                str(trained.get("micro_batch", "–")),
                "–" if measured.get("threshold") is None else f"{measured['threshold']:g}",
                f"{sum(measured.get('seconds', {}).values()):.0f}",
                str(measured.get("started", "–")),
                tag("code", f"{FOLDER}/{result.config.file_stem}.json"),
                tag("code", measured.get("weights_sha256", "")[:16] or "–"),
            ]
        )
    headings = (
        "model", "seed", "status", "steps", "patches at a time", "threshold", "seconds", "started", "result file",
        "sha256 of the weights, first 16 digits",
    )  # fmt: skip
    return table("Every trial of this table", headings, cells)


def _terms(terms: Iterable[tuple[str, Child]]) -> Iterable[Element]:
    for name, value in terms:
        yield tag("dt", name)
        yield tag("dd", value)


def _is_short(value: Any) -> bool:
    return value not in (None, "", []) and len(_plain(value)) < 200


def _said(value: Any) -> str:
    """Of a recipe, in words."""
    if isinstance(value, bool):
        return "yes" if value else "no"
    return f"{value:g}" if isinstance(value, float) else str(value)


def _plain(value: Any) -> str:
    return value if isinstance(value, str) else json.dumps(value)
