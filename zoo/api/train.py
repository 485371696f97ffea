"""``zoo.train``: train one model and return it ready for use."""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack, suppress
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from zoo.api.trained_model import TrainedModel
from zoo.datasets.source import DataSource
from zoo.errors import ConfigError, ResultError, ZooError
from zoo.files import check_writable_folder, locked
from zoo.registry import catalogue, check_options, provider_of
from zoo.training.recipes import FineTuning, Recipe, get_recipe

if TYPE_CHECKING:
    from zoo.bench.config import TrialConfig
    from zoo.bench.results import TrialResult
    from zoo.datasets.audit import AuditSummary
    from zoo.datasets.base import PatchDataset
    from zoo.jobs import StageCallback
    from zoo.training.bundle import Bundle
    from zoo.training.finetuning import Transfer

Splits = Mapping[str, "PatchDataset"]
OnOpen = Callable[["TrialConfig", Splits], "AuditSummary | None"]
OnTransfer = Callable[["Transfer"], None]


class TrainingError(ZooError):
    """A training run that failed.

    Attributes:
        result: the result of the trial, with its status and the reason.
    """

    result: TrialResult


def train(
    model: str,
    data: str | os.PathLike[str] | DataSource = "synthetic",
    *,
    recipe: str | Recipe = "quick",
    seed: int = 0,
    device: str = "auto",
    out: str | os.PathLike[str] | None = None,
    options: Mapping[str, Any] | None = None,
    data_options: Mapping[str, Any] | None = None,
    from_: str | os.PathLike[str] | None = None,
    freeze: str | Sequence[str] = (),
    old_lr_factor: float = FineTuning.old_lr_factor,
    half: bool = False,
    resume: bool = False,
    overwrite: bool = False,
    speed: bool = False,
    progress: StageCallback | None = None,
    open_splits: Callable[[DataSource], dict[str, PatchDataset]] | None = None,
    on_open: OnOpen | None = None,
    on_transfer: OnTransfer | None = None,
    **overrides: Any,
) -> TrainedModel:
    """Train one model, choose its threshold on the validation split and measure it on the test split.

    Training runs in its own process, within the recipe's time limit; a batch that does not fit into memory is split.
    With a model, loss or data set registered in this session, training runs in this process.

    Args:
        model: name of a registered model (``zoo.list_models()``).
        data: name of a registered data set (``zoo.list_datasets()``), or folder of images and masks.
        recipe: ``quick``, ``modern``, ``strong``, ``paper`` or a :class:`~zoo.training.recipes.Recipe`.
        seed: seed of the weights, the order of the patches and the augmentation.
        device: ``auto``, ``cpu``, ``cuda``, ``cuda:1`` or ``mps``.
        out: folder for the bundle, the result (``zoo report``), the pictures and the resume state; with ``None``
            nothing is saved, and :meth:`TrainedModel.save` can write the bundle later.
        options: options of the model (``zoo models show NAME``).
        data_options: options of the data set (``zoo datasets show NAME``), such as ``{"group_column": "scene"}``.
        from_: bundle whose weights training starts from (fine-tuning): a folder, or any other source that
            :func:`zoo.load` takes. The model has the options of the bundle, unless ``options`` changes them.
        freeze: layers that keep their weights during fine-tuning, such as ``"encoder"``: prefixes of weight names.
        old_lr_factor: learning rate of weights copied from ``from_``, as a fraction of the recipe's.
        half: store the weights in ``out`` as float16, at half the size (:meth:`zoo.training.bundle.Bundle.save`).
        resume: resume from the resume state in ``out``, if there is one. A finished run of the same model, data, recipe
            and seed is returned unchanged.
        overwrite: replace a bundle in ``out``.
        speed: time the model after training, and store the figures in its result.
        progress: called with the stage (``data``, ``resume`` for the steps of earlier runs, ``train``, ``val``,
            ``test``, ``speed``), the number of items done and the total.
        open_splits: function that opens the splits, for callers that show progress.
        on_open: called with the trial and its splits before training; may return the audit for the result file.
        on_transfer: called before fine-tuning with the transfer of weights from ``from_``.
        **overrides: fields of the recipe to replace, such as ``steps=200``, ``lr=1e-3``, ``loss="focal"`` or
            ``loss_options={"gamma": 3.0}``.

    Returns:
        The trained model; its ``result`` has the figures of the test split.

    Raises:
        TrainingError: if training fails, for example because the loss diverges.
        ConfigError: if ``out`` holds another bundle, an option is invalid, or ``from_`` holds another architecture.
        ZooError: if the data are missing or damaged, or another process trains into ``out``.

    Examples:
        >>> model = zoo.train("unet", "synthetic", steps=20, options={"widths": (8, 16, 16, 16, 16)})  # doctest: +SKIP
        >>> model  # doctest: +SKIP
        TrainedModel(unet, 7 bands, trained on synthetic, test Dice 0.512, threshold 0.37)
        >>> model.save("runs/unet")  # doctest: +SKIP
        >>> tuned = zoo.train("unet", "my_patches", from_="runs/unet", freeze="encoder")  # doctest: +SKIP
    """
    from zoo.jobs import prepare

    chosen = _recipe(recipe, overrides)
    source = DataSource.of(data, data_options)
    separate = not _registered_here(model, chosen.loss, source.name)
    if separate:
        # Start the process first, so that it imports in parallel.
        prepare("zoo.bench.trial", "segmentation_models_pytorch")

    from zoo.bench.config import TrialConfig
    from zoo.datasets.base import SPLITS
    from zoo.training.compute import resolve_device

    model_options, parent, start = _start(model, dict(options or {}), from_, freeze, old_lr_factor)
    if isinstance(seed, bool) or not 0 <= seed < 2**32:
        raise ConfigError(f"{seed!r} is not a valid seed", hint="Give an integer from 0 to 4294967295")
    place = str(resolve_device(device))
    with ExitStack() as exits:
        if out is None:
            folder = Path(exits.enter_context(tempfile.TemporaryDirectory(prefix="zoo-train-")))
        else:
            folder = check_writable_folder(out)
            busy = ZooError("another process trains into this folder", where=folder, hint="Wait, or name another --out")
            exits.enter_context(locked(folder / ".lock", busy, remove=True))
        written = folder / "bundle.json"
        if out is not None and not resume and not overwrite and written.exists():
            raise _occupied_error(folder)
        splits = (open_splits or _open_quietly)(source)
        for split in SPLITS:
            if not len(splits[split]):
                raise ZooError(f"the {split} split is empty", where=source.label, hint="Split the data differently")
        fingerprints = {split: dataset.fingerprint() for split, dataset in splits.items()}
        config = TrialConfig(model, model_options, source, fingerprints, chosen, seed, place, fine_tuning=start)
        transfer = None if parent is None else _plan(parent, config, splits, detailed=on_transfer is not None)
        finished = None if overwrite else _finished_result(folder, config)
        if finished is None and not overwrite and written.exists() and not _was_interrupted(folder, config):
            raise _occupied_error(folder)
        state = folder / "resume" / config.key
        if finished is not None:
            if state.is_dir():  # stopped after the result was written
                _complete(folder, finished, splits["test"], state)
            return _trained(folder, finished, device, keep=out is not None)
        if on_transfer is not None and transfer is not None:
            on_transfer(transfer)
        audit = None if on_open is None else on_open(config, splits)
        result = _run(config, folder, state, resume, separate, progress).with_audit(audit)
        result = _store_half_precision(result, folder) if half and result.ok else result
        result.save(folder)
        if not result.ok:
            failure = TrainingError(f"training {config.label} failed: {result.error}")
            failure.result = result
            raise failure
        if speed:
            result = _with_speed(result, folder, progress)
        if out is not None:
            _complete(folder, result, splits["test"], state)
        return _trained(folder, result, device, keep=out is not None)


def open_parent(start: FineTuning) -> tuple[Bundle, FineTuning]:
    """Return the bundle that training starts from, and the settings with its folder and the sha256 of its weights.

    Raises:
        ZooError: if there is no such bundle, or it is damaged.
    """
    from zoo.training.bundle import Bundle
    from zoo.weights.sources import resolve

    folder = resolve(start.folder or start.parent)
    bundle = Bundle.load(folder)
    return bundle, replace(start, folder=str(folder.absolute()), sha256=bundle.weights_sha256)


def _start(
    model: str,
    options: dict[str, Any],
    from_: str | os.PathLike[str] | None,
    freeze: str | Sequence[str],
    old_lr_factor: float,
) -> tuple[dict[str, Any], Bundle | None, FineTuning | None]:
    """Return the options of the model, and the bundle that it starts from, if there is one."""
    checked = check_options(catalogue().models.get(model), options)
    frozen = (freeze,) if isinstance(freeze, str) else tuple(freeze)
    if from_ is None:
        if frozen:
            raise ConfigError(
                f"{', '.join(frozen)} would keep random weights",
                where="freeze",
                hint="Name the bundle whose weights training starts from: --from",
            )
        if old_lr_factor != FineTuning.old_lr_factor:
            raise ConfigError(
                "sets the learning rate of copied weights, but no weights are copied",
                where="old_lr_factor",
                hint="Name the bundle whose weights training starts from: --from",
            )
        return checked, None, None
    from zoo.training.finetuning import parent_options

    parent, start = open_parent(FineTuning(os.fspath(from_), frozen, old_lr_factor))
    return parent_options(parent, model, checked, start.parent), parent, start


def _plan(parent: Bundle, config: TrialConfig, splits: Splits, *, detailed: bool) -> Transfer:
    """Check that the bundle fits the data and the model, and return the transfer, on request with comparisons."""
    from zoo.datasets.statistics import compute_statistics
    from zoo.training.finetuning import plan_transfer, with_comparison

    train = splits["train"]
    assert config.fine_tuning is not None
    transfer = plan_transfer(parent, config.options, train.bands, train.class_names, config.fine_tuning)
    if not detailed:
        return transfer
    return with_comparison(transfer, parent, train, compute_statistics(train), config.data, splits["test"])


def _store_half_precision(result: TrialResult, folder: Path) -> TrialResult:
    """Store the weights of a finished run as float16."""
    from zoo.training.bundle import Bundle

    return result.with_measurements(weights_sha256=Bundle.load(folder).save(folder, half=True))


def _open_quietly(source: DataSource) -> dict[str, PatchDataset]:
    return source.open_splits()


def _recipe(recipe: str | Recipe, overrides: Mapping[str, Any]) -> Recipe:
    chosen = get_recipe(recipe) if isinstance(recipe, str) else recipe
    chosen = chosen.changed(**overrides)
    checked = check_options(catalogue().losses.get(chosen.loss), chosen.loss_options)
    return chosen if checked == chosen.loss_options else chosen.changed(loss_options=checked)


def _registered_here(model: str, loss: str, data: str) -> bool:
    """Return whether a name exists only in this process, so that a child process would not know it."""
    return not all(
        (
            provider_of("model", model).distribution,
            provider_of("loss", loss).distribution,
            provider_of("dataset", data).distribution,
        )
    )


def _finished_result(folder: Path, config: TrialConfig) -> TrialResult | None:
    """Return the result of a finished run of the same trial, if its bundle is still in the folder."""
    from zoo.bench.results import valid_result
    from zoo.training.bundle import Bundle

    try:
        result = valid_result(folder, config)
        if result is None or result.measurements is None:
            return None
        if Bundle.load(folder).weights_sha256 != result.measurements.weights_sha256:
            return None
    except ResultError:
        return None
    return result


def _was_interrupted(folder: Path, config: TrialConfig) -> bool:
    """Return whether the bundle in the folder was left by the same trial, stopped before its result was written."""
    from zoo.training.bundle import Bundle

    try:
        bundle = Bundle.load(folder)
    except ZooError:
        return False
    same_training = (bundle.model, bundle.options, bundle.seed) == (config.model, config.options, config.seed)
    same_data = bundle.data.fingerprints == config.fingerprints and bundle.recipe in (None, config.recipe)
    return (folder / "resume" / config.key).is_dir() and same_training and same_data


def _occupied_error(folder: Path) -> ConfigError:
    return ConfigError(
        "already holds a bundle",
        where=folder,
        hint="Name another --out, or replace the bundle with --overwrite; --resume keeps a finished run of the same "
        "command",
    )


def _run(
    config: TrialConfig, folder: Path, state: Path, resume: bool, separate: bool, progress: StageCallback | None
) -> TrialResult:
    from zoo.bench.runner import TrialTask, recorded_format, result_of, trial_job
    from zoo.jobs import Outcome, Work, describe_failure, run_job
    from zoo.registry import plugin_errors

    recorded = recorded_format(folder, config)
    if separate:
        log = folder / "train.log"
        job = trial_job(config, bundle=folder, log=log, state=state, resume=resume, recorded=recorded)
        return result_of(config, run_job(job, progress))
    from zoo.bench.trial import run_trial

    def send(message: tuple[Any, ...]) -> None:
        if message[0] == "stage" and progress is not None:
            progress(*message[1:])

    task = TrialTask(config, resume, recorded=recorded)
    folders = {"bundle": folder, "state": state}
    if config.fine_tuning is not None:
        folders["parent"] = Path(config.fine_tuning.folder)
    try:
        with plugin_errors():
            return run_trial(task, Work(folders, send))
    except Exception as error:
        status, text = describe_failure(error)
        return result_of(config, Outcome(status, error=text, argument=task))


def _complete(folder: Path, result: TrialResult, test: PatchDataset, state: Path) -> None:
    """Draw the pictures of a finished training and remove its resume state."""
    _draw(folder, result, test)
    shutil.rmtree(state, ignore_errors=True)
    with suppress(OSError):
        state.parent.rmdir()


def _draw(folder: Path, result: TrialResult, test: PatchDataset) -> None:
    from zoo.training.bundle import Bundle
    from zoo.training.pictures import save_loss_curve, save_predictions

    config, bundle = result.config, Bundle.load(folder)
    if result.training is not None:
        save_loss_curve(result.training.curve, folder / "loss_curve.png", f"{config.label}, {config.recipe.name}")
    save_predictions(bundle.predictor(), bundle.compute_format, test, bundle.threshold, folder / "predictions.png")


def _with_speed(result: TrialResult, folder: Path, progress: StageCallback | None) -> TrialResult:
    """Time the model of a result; one round is enough, because there is no other model to compare it with."""
    from zoo.bench.speed_session import SpeedReport, SpeedSettings, SpeedSubject, time_models, time_results

    def time_one(subjects: Sequence[SpeedSubject]) -> list[SpeedReport]:
        return time_models(subjects, SpeedSettings(rounds=1), None if progress is None else partial(progress, "speed"))

    return time_results([result], folder, time_one)[0]


def _trained(folder: Path, result: TrialResult, device: str, *, keep: bool) -> TrainedModel:
    from zoo.training.bundle import Bundle

    model = TrainedModel(Bundle.load(folder), folder=folder if keep else None, device=device)
    model.result = result
    return model
