"""``zoo.speed``: time models on this machine."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Literal

from zoo.datasets.source import DataSource
from zoo.schema import to_plain

if TYPE_CHECKING:
    import pandas as pd

    from zoo.bench.speed_session import SpeedReport, SpeedSubject
    from zoo.datasets.base import PatchDataset
    from zoo.jobs import ProgressCallback

OpenSplits = Callable[[DataSource, Sequence[str]], Mapping[str, "PatchDataset"]]


@dataclass(frozen=True)
class Timings:
    """Timings of models, in the order in which they were named.

    Attributes:
        subjects: timed models, with options, shape of the image and device.
        reports: samples of each subject, and how they were measured; a report without samples gives the reason.
    """

    subjects: tuple[SpeedSubject, ...]
    reports: tuple[SpeedReport, ...]

    @property
    def ok(self) -> bool:
        """Whether any model was timed."""
        return any(report.samples for report in self.reports)

    def records(self) -> list[dict[str, Any]]:
        """Return one row per model, the fastest first; a figure that was not measured is ``None``."""
        rows = [_record(subject.label, report) for subject, report in zip(self.subjects, self.reports, strict=True)]
        return sorted(rows, key=lambda row: -(row["images_per_second"] or 0.0))

    def to_pandas(self) -> pd.DataFrame:
        """Return the rows of :meth:`records` as a table."""
        import pandas as pd

        return pd.DataFrame(self.records())

    def to_json(self) -> list[dict[str, Any]]:
        """Return all samples with their protocol as plain JSON values, one entry per model."""
        return [
            {
                "model": subject.model,
                "options": subject.options,
                "speed": to_plain(report.samples),
                "speed_protocol": to_plain(report.protocol),
            }
            for subject, report in zip(self.subjects, self.reports, strict=True)
        ]

    def _repr_html_(self) -> str:
        return str(self.to_pandas().to_html(index=False, na_rep="-", float_format="{:.4g}".format))


def speed(
    models: str,
    *,
    size: int = 128,
    channels: int = 7,
    classes: int = 2,
    batch: int | None = None,
    precision: Literal["fp32", "bf16"] = "fp32",
    options: Mapping[str, Any] | None = None,
    data: str | os.PathLike[str] | DataSource | None = None,
    data_options: Mapping[str, Any] | None = None,
    device: str = "auto",
    threads: int | None = None,
    rounds: int = 3,
    seconds: float = 0.5,
    optimized: bool = False,
    progress: ProgressCallback | None = None,
    open_splits: OpenSplits | None = None,
) -> Timings:
    """Time models in rounds; each round runs every model in a fresh process.

    The timings hold the latency at batch 1 and the throughput at the fastest batch size (medians and quartile ranges
    over all rounds), parameters, GMAC, peak memory, energy where the machine measures it, and with ``data`` the
    throughput from reading patches to the mask. Use an otherwise idle machine.

    Args:
        models: ``all``, or names and shell patterns such as ``"unet,*plus"``.
        size: height and width of an image in pixels.
        channels: number of bands of an image.
        classes: channels of the logits.
        batch: images per pass; ``None`` for 1 and the fastest batch size, which is searched.
        precision: number format.
        options: options of the models.
        data: data set whose test patches give the image size, the classes and the end-to-end timing.
        data_options: options of the data set.
        device: ``auto``, ``cpu``, ``cuda``, ``cuda:1`` or ``mps``.
        threads: threads on the processor; ``None`` for torch's choice.
        rounds: fresh processes per model.
        seconds: seconds of timing per batch size.
        optimized: also time the fastest form of each model (:func:`zoo.deploy.optimize`).
        progress: called with the number of processes done and the total.
        open_splits: function that opens splits of the data, for callers that show progress.

    Returns:
        The timings: ``records()``, ``to_pandas()``; a table in a notebook. A model that fails has no figures, and its
        report gives the reason.

    Raises:
        UnknownNameError: for a model, data set or option that does not exist.
        ZooError: if the data or the device cannot be used.

    Example:
        >>> found = zoo.speed("unet,segnet", size=64, batch=1, rounds=1, seconds=0.05)  # doctest: +SKIP
        >>> found.to_pandas()[["model", "batch", "images_per_second"]]  # doctest: +SKIP
    """
    from zoo.bench.config import select_models
    from zoo.jobs import prepare
    from zoo.registry import catalogue, check_options

    names = select_models(models)
    checked = {name: check_options(catalogue().models.get(name), dict(options or {})) for name in names}
    source = None if data is None else DataSource.of(data, data_options)
    # The fork server must start before torch is imported.
    prepare("zoo.bench.trial")

    from zoo.bench.speed_session import SpeedSettings, SpeedSubject, time_models
    from zoo.training.compute import resolve_device

    place = str(resolve_device(device))
    shape = (channels, size, size)
    if source is not None:
        test = source.open("test") if open_splits is None else open_splits(source, ("test",))["test"]
        image = test[0]["image"]
        shape, classes = (image.shape[0], image.shape[1], image.shape[2]), len(test.class_names)
    subjects = [SpeedSubject(name, checked[name], classes, shape, place, precision, name, source) for name in names]
    if optimized:
        subjects += [replace(subject, label=f"{subject.label}, optimized", optimized=True) for subject in subjects]
    settings = SpeedSettings(rounds, seconds, None if batch is None else (batch,), threads)
    return Timings(tuple(subjects), tuple(time_models(subjects, settings, progress)))


def _record(label: str, report: SpeedReport) -> dict[str, Any]:
    best, protocol = report.best, report.protocol
    single = next((sample for sample in report.samples if sample.batch == 1), None)
    end = protocol.end_to_end
    peak = None if best is None or protocol.memory is None else protocol.memory.peak_bytes.get(best.batch)
    return {
        "model": label,
        "latency_ms": None if single is None else 1e3 * single.median_s,
        "latency_iqr_ms": None if single is None else 1e3 * single.iqr_s,
        "images_per_second": None if best is None else best.images_per_second,
        # The range of a rate follows from that of the time: rate * IQR / median.
        "images_per_second_iqr": None if best is None else best.images_per_second * best.iqr_s / best.median_s,
        "batch": None if best is None else best.batch,
        "end_to_end_per_second": None if end is None else end.images_per_second,
        "peak_mib": peak / 2**20 if peak else None,
        "joules_per_image": None if protocol.energy is None else protocol.energy.joules_per_image,
        "parameters": None if best is None else protocol.parameters,
        "gmac": None if best is None else protocol.gmac,
    }
