"""Origin of the figures: data, recipe, machine, every trial, and the commands that reproduce them."""

from __future__ import annotations

import json
import shlex
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from zoo.bench.results import FOLDER, TrialResult
from zoo.bench.runner import BUNDLES
from zoo.datasets.audit import KINDS
from zoo.datasets.source import DataSource
from zoo.evaluation.columns import UNDEFINED
from zoo.schema import to_plain
from zoo.training.recipes import JITTERS, RECIPES, FineTuning, Recipe

GROUPS = ("train_groups", "val_groups", "test_groups")
TEXT_FIELDS = ("group_column", "group_pattern", "split_by")
FIELDS = ("steps", "epochs", "batch_size", "crop", "lr", "loss", "precision", "time_limit", *JITTERS)
MAX_VALUE_LENGTH = 200
"""Maximum length in characters of a value of the speed protocol that is shown."""


@dataclass(frozen=True)
class Term:
    """Name with its value.

    Attributes:
        name: the name.
        value: the value as text.
        code: whether the value is code.
    """

    name: str
    value: str
    code: bool = False


@dataclass(frozen=True)
class Provenance:
    """Origin of the figures of a setting.

    Attributes:
        data: description of data and split.
        recipe: training recipe.
        machines: description of each machine.
        speed: how speed was measured; empty if it was not.
        commands: comments and the commands that they explain, which reproduce the results.
        trials: cells of each trial, in the order of :data:`TRIAL_HEADINGS`.
    """

    data: Sequence[Term]
    recipe: Sequence[Term]
    machines: Sequence[Sequence[Term]]
    speed: Sequence[Term]
    commands: Sequence[tuple[str, str]]
    trials: Sequence[Sequence[str]]


TRIAL_HEADINGS = (
    "model", "seed", "status", "steps", "patches at a time", "threshold", "seconds", "started", "result file",
    "sha256 of the weights, first 16 digits",
)  # fmt: skip


def make_provenance(results: Sequence[TrialResult], folder: str) -> Provenance:
    """Return the origin of the figures of one setting.

    Args:
        results: results of the setting.
        folder: name of the folder from which they were read.
    """
    protocols = (to_plain(result.speed_protocol) for result in results if result.speed_protocol is not None)
    protocol: dict[str, Any] = next(protocols, {})
    return Provenance(
        data=_data(results),
        recipe=_recipe(results[0].config.recipe),
        machines=_machines(results),
        speed=[Term(name.replace("_", " "), _as_text(value)) for name, value in protocol.items() if _is_short(value)],
        commands=_commands(results, folder),
        trials=[_trial(result) for result in results],
    )


def bench_command(results: Sequence[TrialResult], folder: str) -> str:
    """Return the ``zoo bench`` command that reruns the trials of a setting; ``zoo train`` for fine-tuning.

    Args:
        results: results of one setting.
        folder: value of ``--out``.
    """
    config = results[0].config
    if config.fine_tuning is not None and not config.benchmark:
        # zoo bench accepts initial weights only from a configuration.
        command = [
            "zoo",
            "train",
            config.model,
            *_fine_tuning_arguments(config.fine_tuning),
            *_data_arguments(config.data),
        ]
        command += [*_recipe_arguments(config.recipe), "--seed", str(config.seed)]
        return shlex.join([*command, "--device", config.device, "--out", folder])
    command = ["zoo", "bench"]
    if config.benchmark:
        command += ["--config", f"benchmarks/{config.benchmark}.toml"]
    else:
        command += ["--models", ",".join(dict.fromkeys(result.config.model for result in results))]
        command += _data_arguments(config.data)
        command += _recipe_arguments(config.recipe)
    seeds = {result.config.seed for result in results}
    # A configuration may list seeds that no option can express.
    if not config.benchmark or seeds == set(range(len(seeds))):
        command += ["--seeds", str(max(seeds) + 1)]
    return shlex.join([*command, "--device", config.device, "--out", folder])


def _fine_tuning_arguments(start: FineTuning) -> list[str]:
    arguments = ["--from", start.parent]
    for layer in start.freeze:
        arguments += ["--freeze", layer]
    if start.old_lr_factor != FineTuning.old_lr_factor:
        arguments += ["--old-lr-factor", f"{start.old_lr_factor:g}"]
    return arguments


def _data_arguments(data: DataSource) -> list[str]:
    options = dict(data.options)
    root = options.pop("root", None)
    arguments = ["--data", str(root) if data.name == "folder" and root else data.name]
    if data.name != "folder" and root:
        options["root"] = root
    for name, value in options.items():
        flag = f"--{name.replace('_', '-')}"
        if name in GROUPS and isinstance(value, list):
            arguments += [flag, ",".join(map(str, value))]
        elif name in TEXT_FIELDS and isinstance(value, str):
            arguments += [flag, value]
        else:
            arguments += ["--data-option", f"{name}={json.dumps(value)}"]
    return arguments


def _recipe_arguments(recipe: Recipe) -> list[str]:
    name = recipe.name.partition("[")[0]
    arguments = ["--recipe", name]
    known = RECIPES.get(name)
    for field in FIELDS if known else ():
        value = getattr(recipe, field)
        if value != getattr(known, field) and (value is not None or field == "crop"):
            arguments += [f"--{field.replace('_', '-')}", "0" if value is None else str(value)]
    return arguments


def _data(results: Sequence[TrialResult]) -> list[Term]:
    config, good = results[0].config, next((result for result in results if result.ok), None)
    terms = [Term("data set", config.data.label)]
    options = {name: value for name, value in config.data.options.items() if name != "root"}
    terms += [Term(f"option {name}", json.dumps(value)) for name, value in options.items()]
    if config.setting:
        terms.append(Term("held out", config.setting))
    if good is not None:
        data, patches = good.data, good.data.patches
        terms += [
            Term("patches", f"{patches.train} to train, {patches.val} to validate, {patches.test} to test"),
            Term("scenes or events tested", ", ".join(dict.fromkeys(good.test.groups))),
            Term("patch", " x ".join(map(str, data.patch)) + " (channels, height, width)"),
            Term("pixel", "unknown" if data.pixel_size is None else f"{data.pixel_size:g} m"),
            Term("channels", ", ".join(f"{band.name} ({band.unit})" for band in data.bands)),
            Term("classes", ", ".join(data.class_names)),
            Term("notes on the split", "; ".join(data.split_notes) or "none"),
        ]
    terms += [Term(f"sha256 of {split}", value, code=True) for split, value in config.fingerprints.items()]
    return [*terms, *_audit(results)]


def _audit(results: Sequence[TrialResult]) -> list[Term]:
    found = next((audit for result in results if (audit := result.audit) is not None), None)
    if found is None:
        terms = [Term("audit of the splits", "missing from these result files, which an earlier version wrote")]
    else:
        terms = [Term("audit of the splits", found.verdict)]
        touching = [
            f"{entry.patches:,} {entry.second} patches touch {entry.first}: {KINDS[entry.kind]} ({entry.kind})"
            for entry in found.touched
            if entry.kind in KINDS
        ]
        if touching:
            terms.append(Term("what leaks", "; ".join(touching)))
    command = shlex.join(["zoo", "audit", *_data_arguments(results[0].config.data)[1:]])
    return [*terms, Term("every pair that touches", command, code=True)]


def _recipe(recipe: Recipe) -> list[Term]:
    values = recipe.to_dict()
    summary = "" if "[" in recipe.name else f": {recipe.summary}"
    if recipe.time_limit is not None:
        values["time_limit"] = f"{recipe.time_limit:g} s per trial"
    return [
        Term("recipe", f"{recipe.name}{summary}"),
        *(
            Term(name.replace("_", " "), _format_value(value))
            for name, value in values.items()
            if name not in ("name", "summary") and value is not None
        ),
    ]


def _machines(results: Sequence[TrialResult]) -> list[list[Term]]:
    environments: dict[str, list[str]] = {}
    for result in results:
        if result.ok:
            text = json.dumps(to_plain(result.environment), sort_keys=True)
            environments.setdefault(text, []).append(f"{result.config.label} #{result.config.seed}")
    machines = []
    for text, trials in environments.items():
        environment = json.loads(text)
        versions = environment.pop("versions", {})
        terms = [Term(name.replace("_", " "), str(value)) for name, value in environment.items()]
        terms.append(Term("software", ", ".join(f"{name} {version}" for name, version in versions.items())))
        machines.append([Term("trials", ", ".join(trials)), *terms] if len(environments) > 1 else terms)
    return machines


def _commands(results: Sequence[TrialResult], place: str) -> list[tuple[str, str]]:
    commands = [
        ("train, measure and time all models again", bench_command(results, place)),
        (
            "print the table from the result files, with unrounded figures",
            shlex.join(["zoo", "report", place, "--format", "csv"]),
        ),
    ]
    trained = next((result.config for result in results if result.ok and not result.config.adapted), None)
    if trained is not None:
        bundle = f"{place}/{BUNDLES}/{trained.file_stem}"
        commands.append(("evaluate one model again from its weights", shlex.join(["zoo", "evaluate", bundle])))
    if not results[0].config.benchmark:
        models = ",".join(dict.fromkeys(result.config.model for result in results))
        commands.append(("speed alone", shlex.join(["zoo", "speed", models])))
    return [*commands, ("this page", shlex.join(["zoo", "report", place, "--html", "report.html"]))]


def _trial(result: TrialResult) -> list[str]:
    training, measured = result.training, result.measurements
    started, digest = (None, "") if measured is None else (measured.started, measured.weights_sha256)
    return [
        result.config.label,
        str(result.config.seed),
        result.status,
        UNDEFINED if training is None else str(training.steps),
        UNDEFINED if training is None or training.micro_batch is None else str(training.micro_batch),
        UNDEFINED if measured is None else f"{measured.threshold:g}",
        f"{result.seconds:.0f}",
        started or UNDEFINED,
        f"{FOLDER}/{result.config.file_stem}.json",
        digest[:16] or UNDEFINED,
    ]


def _is_short(value: Any) -> bool:
    return value not in (None, "", []) and len(_as_text(value)) < MAX_VALUE_LENGTH


def _format_value(value: Any) -> str:
    if isinstance(value, bool):
        return "yes" if value else "no"
    return f"{value:g}" if isinstance(value, float) else _as_text(value)


def _as_text(value: Any) -> str:
    return value if isinstance(value, str) else json.dumps(value)
