"""Measure a trained model on a split: ``TrainedModel.evaluate`` and ``zoo evaluate``."""

from __future__ import annotations

import html
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from typing import TYPE_CHECKING, Literal

from zoo.datasets.source import DataSource
from zoo.errors import ConfigError, DataError
from zoo.evaluation.quality import (
    MAX_GROUPS,
    Calibration,
    MeasuredSplit,
    measure_split,
    merge_evaluations,
)

if TYPE_CHECKING:
    import torch
    from torch import Tensor

    from zoo.api.trained_model import TrainedModel
    from zoo.datasets.base import PatchDataset
    from zoo.jobs import StageCallback
    from zoo.training.bundle import Bundle
    from zoo.training.evaluate import Evaluation
    from zoo.training.predictor import Predictor

TOLERANCE = 1e-3
"""Maximum difference of a figure that rounding on another machine can explain."""


@dataclass(frozen=True)
class SplitEvaluation:
    """Figures of a model on one split of a data set.

    Attributes:
        figures: figures by name; ``None`` where undefined.
        threshold: landslide probability at or above which a pixel counted as landslide.
        data: the data set.
        split: name of the split.
        patches: number of patches.
        same_patches: whether these are the patches of the same split of the model's own training run.
        stored: figures of the test split in the bundle, if they come from the same patches.
        adapted_patches: number of patches that the model was adapted to; ``None`` if that is unknown, 0 for a model
            that was not adapted.
        warnings: reasons why the figures may be misleading, in sentences.
        measured: figures of the split and of its scenes, with intervals, as a bundle records them.
    """

    figures: dict[str, float | None]
    threshold: float
    data: DataSource
    split: str
    patches: int
    same_patches: bool
    stored: dict[str, float | None] = field(default_factory=dict)
    adapted_patches: int | None = 0
    warnings: tuple[str, ...] = ()
    measured: tuple[MeasuredSplit, ...] = ()

    @property
    def changed(self) -> tuple[str, ...]:
        """Names of the figures that differ from those in the bundle by more than 0.001."""
        return tuple(name for name, value in self.stored.items() if _differs(value, self.figures.get(name)))

    def __getitem__(self, name: str) -> float | None:
        """Return a figure by its name, such as ``evaluation["dice"]``."""
        return self.figures[name]

    def _repr_html_(self) -> str:
        rows = "".join(
            f"<tr><td>{html.escape(name)}</td><td style='text-align:right'>{_figure(value)}</td></tr>"
            for name, value in self.figures.items()
        )
        caption = f"{html.escape(self.data.label)}, {self.split} split, {self.patches} patches"
        return f"<table><caption>{caption}; threshold {self.threshold:.6g}</caption>{rows}</table>"


def evaluate_split(
    model: TrainedModel,
    source: DataSource,
    split: str,
    *,
    threshold: float | None = None,
    adapted: bool = False,
    scales: Sequence[float] | Literal["auto"] = (1.0,),
    tta: bool = False,
    record: bool = False,
    progress: StageCallback | None = None,
) -> tuple[SplitEvaluation, PatchDataset, Evaluation]:
    """Measure a model on a split that has masks; see :meth:`zoo.api.trained_model.TrainedModel.evaluate`.

    Returns:
        The figures, the patches, and the counts on each of them.

    Raises:
        DataError: if the data are missing, or their bands are not those of the model.
        ZooError: if the figures are to be recorded and the folder cannot be written to.
    """
    from zoo.datasets.splits import held_out_blocks
    from zoo.evaluation.columns import summarise
    from zoo.files import printable
    from zoo.training.adaptation import adapt
    from zoo.training.adaptation_data import count_adapted_patches

    if threshold is not None and not 0 <= threshold <= 1:
        raise ConfigError(f"a threshold of {threshold:g} is not a probability", hint="Give a number from 0 to 1")
    if tuple(scales) != (1.0,) and not adapted:
        raise ConfigError("magnified images need adapted statistics", where="--scales", hint="Add --adapt")
    if record and (tta or tuple(scales) != (1.0,)):
        raise ConfigError(
            "figures of rotated or magnified images are not recorded: maps made without --tta and --scales would "
            "quote them",
            where="--record",
            hint="Record without --tta and --scales",
        )
    report = progress or (lambda stage, done, total: None)
    bundle = model.bundle
    dataset = source.open(split, lambda done, total: report("reading the data", done, total))
    if not len(dataset):
        raise DataError(f"the {split} split is empty", where=source.label, hint="Split the data differently")
    bundle.check_bands(dataset.bands, source.label)

    def on_batch(done: int) -> None:
        report("evaluating", done, len(dataset))

    measure = partial(_measure, dataset=dataset, threshold=threshold, tta=tta, device=model.device)
    if adapted:
        adapt_to = partial(adapt, bundle, device=model.device, scales=scales)
        found = _measure_adapted(bundle.batch_size, adapt_to, measure, dataset, on_batch)
    else:
        found = measure(bundle, model.predictor, places=range(len(dataset)), on_batch=on_batch)
    fingerprint = dataset.fingerprint()
    measured = measure_split(
        found.counts,
        [printable(patch.group) for patch in dataset.patches],
        threshold=found.threshold,
        data=source.label,
        split=split,
        split_sha256=fingerprint,
        adapted=adapted or bundle.adaptation is not None,
        calibration=_calibration(bundle, found, split, held_out_blocks(dataset.patches), adapted=adapted),
    )
    if record:
        model.bundle = replace(bundle, evaluations=merge_evaluations(bundle.evaluations, measured))
        if model.folder is not None:
            model.bundle.save_description(model.folder)
    same = fingerprint == bundle.data.fingerprints.get(split)
    comparable = same and split == "test" and threshold is None and not adapted and not tta
    figures = SplitEvaluation(
        figures={**summarise(found.counts, dataset.pixel_size), "loss": found.loss},
        threshold=found.threshold,
        data=source,
        split=split,
        patches=len(dataset),
        same_patches=same,
        stored=dict(bundle.metrics) if comparable else {},
        adapted_patches=count_adapted_patches(bundle, source, dataset) if bundle.adaptation else 0,
        warnings=_size_warnings(bundle, dataset.pixel_size),
        measured=measured,
    )
    return figures, dataset, found


def _measure(
    bundle: Bundle,
    predictor: Predictor,
    *,
    dataset: PatchDataset,
    places: Sequence[int],
    threshold: float | None,
    tta: bool,
    device: torch.device,
    on_batch: Callable[[int], None],
) -> Evaluation:
    from torch.utils.data import DataLoader, Subset

    from zoo.training.evaluate import evaluate

    batches = DataLoader(Subset(dataset, places), batch_size=bundle.batch_size)
    called_from = bundle.threshold if threshold is None else threshold
    return evaluate(predictor.to(device), bundle.compute_format, batches, called_from, on_batch, tta=tta)


def _measure_adapted(
    batch_size: int,
    adapt_to: Callable[[Iterable[Tensor]], Bundle],
    measure: Callable[..., Evaluation],
    dataset: PatchDataset,
    on_batch: Callable[[int], None],
) -> Evaluation:
    """Adapt to the images of each scene and measure on them; if there are too many scenes, adapt to all at once."""
    from torch.utils.data import DataLoader, Subset

    from zoo.training.evaluate import Evaluation

    scenes: dict[str, list[int]] = {}
    for place, patch in enumerate(dataset.patches):
        scenes.setdefault(patch.group, []).append(place)
    parts = list(scenes.values()) if len(scenes) <= MAX_GROUPS else [list(range(len(dataset)))]
    found: list[Evaluation] = []
    for part in parts:
        adapted_model = adapt_to(batch["image"] for batch in DataLoader(Subset(dataset, part), batch_size=batch_size))
        report = partial(_report_after, on_batch, sum(map(len, found)))
        found.append(measure(adapted_model, adapted_model.predictor(), places=part, on_batch=report))
    return Evaluation.concatenate(found, parts)


def _report_after(on_batch: Callable[[int], None], before: int, done: int) -> None:
    on_batch(before + done)


def _calibration(
    bundle: Bundle, found: Evaluation, split: str, blocks: Sequence[str], *, adapted: bool
) -> Calibration | None:
    """Return the calibration on a split; it is fitted on the validation split and read from the bundle for others."""
    from zoo.training.evaluate import fit_calibration

    if adapted or bundle.adaptation is not None:
        return fit_calibration(found, None)
    if split == "val":
        return fit_calibration(found, found, blocks)
    return Calibration.of(found.logit_histograms, bundle.temperature, bundle.sets, bundle.usual_distance, blocks)


def _size_warnings(bundle: Bundle, found: float | None) -> tuple[str, ...]:
    from zoo.training.bundle import same_pixel_size

    trained = bundle.pixel_size
    if same_pixel_size(found, trained):
        return ()
    return (f"the patches have pixels of {found:.3g} m, but the model was trained on pixels of {trained:.3g} m",)


def _figure(value: float | None) -> str:
    return "-" if value is None else f"{value:.4f}"


def _differs(before: float | None, now: float | None) -> bool:
    if before is None or now is None:
        return before is not now
    return abs(before - now) > TOLERANCE
