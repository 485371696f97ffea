"""A trial that trains nothing: the bundle of another, adapted to the images of the test split and measured there."""

from __future__ import annotations

import hashlib
import time
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import torch
from torch.utils.data import DataLoader, Subset

from zoo.bench.config import TrialConfig
from zoo.bench.measured import count_parameters, describe_test
from zoo.bench.speed import count_gmac
from zoo.bench.trial_data import open_splits_of
from zoo.bench.worker import Progress, TrialJob
from zoo.datasets.base import PatchDataset
from zoo.errors import ZooError
from zoo.evaluation.columns import summarise
from zoo.files import file_name
from zoo.schema import to_plain
from zoo.training.adaptation import adapt
from zoo.training.bundle import AdaptationTarget, Bundle
from zoo.training.compute import describe_environment
from zoo.training.evaluate import Evaluation, evaluate


def run_adapted(job: TrialJob, report: Progress) -> dict[str, Any]:
    """Adapt to each region, measure there, keep the bundles, and give what the result file holds.

    Raises:
        ZooError: if the bundle to start from is absent or damaged, the data changed, or nothing can be adapted.
    """
    config, begun = job.config, time.perf_counter()
    device = torch.device(config.device)
    if job.source is None:
        raise ZooError("an adapted trial starts from the bundle of a trained one, and none was given")
    report("data", 0, 1)
    splits = open_splits_of(config)
    test = splits["test"]
    source = Bundle.load(job.source)
    shape = tuple(test[0]["image"].shape)
    opened = time.perf_counter()

    regions = _regions(config, test)
    bundles: list[Bundle] = []
    parts: list[Evaluation] = []
    gmac = adapting = 0.0
    for number, region in enumerate(regions):
        start = time.perf_counter()
        bundle = _adapt(source, region, config, device, partial(_tell_adapting, report, number, len(regions)))
        adapting += time.perf_counter() - start
        predictor = bundle.predictor().to(device).to(memory_format=bundle.compute_format.memory_format)
        told = partial(_tell_tested, report, sum(map(len, parts)), len(test))
        parts.append(
            evaluate(predictor, bundle.compute_format, _batches(region, config), bundle.threshold, on_batch=told)
        )
        # Regions may be seen at different magnifications; a patch costs what it costs on average.
        gmac += count_gmac(predictor.model, shape, device) * len(region.places) / len(test)
        bundles.append(bundle)
    whole = Evaluation.concatenate(parts, [region.places for region in regions])
    evaluated = time.perf_counter()

    digests = [
        replace(bundle, metrics=summarise(part.counts, test.pixel_size)).save(job.bundle / region.folder)
        for bundle, part, region in zip(bundles, parts, regions, strict=True)
    ]
    records = {region.name: to_plain(bundle.adaptation) for region, bundle in zip(regions, bundles, strict=True)}
    return {
        **describe_test(config, splits, whole, source.threshold),
        # The threshold is the trained model's; nothing is validated again.
        "val": {"loss": None},
        "adaptation": records.get(None, {"groups": records}),
        "parameters": count_parameters(source.predictor().model),
        "gmac": gmac,
        "seconds": {"data": opened - begun, "adapt": adapting, "evaluate": evaluated - opened - adapting},
        "environment": to_plain(describe_environment(device)),
        "weights_sha256": digests[0] if len(digests) == 1 else hashlib.sha256("".join(digests).encode()).hexdigest(),
    }


@dataclass(frozen=True)
class _Region:
    """Test patches that are adapted to together: a group, or all of them, which have no name and no folder."""

    name: str | None
    places: list[int]
    patches: Subset[Any]
    folder: str


def _regions(config: TrialConfig, test: PatchDataset) -> list[_Region]:
    if config.adapting.by == "split":
        everything = list(range(len(test)))
        return [_Region(None, everything, Subset(test, everything), "")]
    groups = [patch.group for patch in test.patches]
    found = []
    for number, name in enumerate(sorted(set(groups))):
        places = [place for place, group in enumerate(groups) if group == name]
        # The number keeps apart what looks alike once a file system's forbidden characters are gone.
        found.append(_Region(name, places, Subset(test, places), f"{number}-{file_name(name)}"))
    return found


def _adapt(source: Bundle, region: _Region, config: TrialConfig, device: torch.device, told: partial[None]) -> Bundle:
    target = AdaptationTarget(
        config.data.name,
        config.data.options,
        "test",
        group=region.name,
        fingerprint=config.fingerprints["test"],
    )
    try:
        return adapt(
            source,
            (batch["image"] for batch in _batches(region, config)),
            scales=config.adapting.scales,
            device=device,
            seed=config.seed,
            target=target,
            progress=told,
        )
    except ZooError as error:
        if region.name is None:
            raise
        place = f"group {region.name!r}" if error.where is None else f"group {region.name!r}: {error.where}"
        raise ZooError(error.problem, where=place, hint=error.hint) from error


def _batches(region: _Region, config: TrialConfig) -> DataLoader[Any]:
    return DataLoader(region.patches, batch_size=config.recipe.batch_size)


def _tell_adapting(report: Progress, number: int, regions: int, done: int, total: int) -> None:
    report("adapt", number * total + done, regions * total)


def _tell_tested(report: Progress, before: int, total: int, done: int) -> None:
    report("test", before + done, total)
