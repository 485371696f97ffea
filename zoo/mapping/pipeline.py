"""From a bundle and a scene to a map: adaptation, tiles, files, polygons and picture.

geopandas and matplotlib take half a second to import, so they are imported only for a mask, polygons or a picture.
"""

from __future__ import annotations

import hashlib
import resource
import sys
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack, closing, redirect_stdout
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from statistics import fmean
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from zoo import __version__
from zoo.deploy import raise_allocator_thresholds
from zoo.errors import ConfigError, DataError, ZooError
from zoo.evaluation.quality import PredictionSets, quality_warnings, share_warnings
from zoo.files import check_output, locked, unwritable
from zoo.jobs import ProgressCallback, StageCallback
from zoo.mapping.clouds import Clouds
from zoo.mapping.domain_shift import TileDistances, measure_domain_shift, measure_tiles
from zoo.mapping.inference import (
    SPREAD_LAYERS,
    AreaMask,
    InferenceForm,
    MapOptions,
    MapPrecision,
    Results,
    SpreadForward,
    TileForward,
    choose_form,
    compute_blocks,
    single_threaded_passes,
)
from zoo.mapping.journal import BLOCKS, Journal, half_published
from zoo.mapping.output import MapReport, ProbabilityMap, check_ensemble, map_polygons, model_tags, write_map
from zoo.mapping.probability import ProbabilityClasses, map_threshold
from zoo.mapping.scene import Scene, open_scene
from zoo.mapping.tiling import Block, PixelRange, Plan
from zoo.rasters.cog import check_disk_space, check_geotiff_name
from zoo.rasters.ground import pixel_area
from zoo.rasters.reading import check_remote_output, file_label, gdal_threads, is_remote, upload
from zoo.training.adaptation import PatchSample, Scales, adapt
from zoo.training.bundle import Bundle
from zoo.training.bundle_layout import ORIGINAL_SCALE, AdaptationTarget
from zoo.training.compute import describe_environment
from zoo.training.predictor import PlausibleRange, Predictor, calibrated

if TYPE_CHECKING:
    from zoo.rasters.vectors import Area

DISK_FACTOR = 3.8
"""Disk space, as a multiple of the map's bytes: its blocks, a working file with overviews, and the finished file."""

WINDOWS, SIDE = 128, 128
"""Number and side in pixels of the windows, spread over the scene, to which a bundle is adapted [O]."""

SHIFT_WINDOWS = 48
"""Number of windows in which a scene is compared with the training data [O]."""


@dataclass(frozen=True)
class MapProducts:
    """Products of a finished map.

    Attributes:
        polygons: GeoPackage or GeoParquet file of the landslides; None for none.
        min_area: minimum area of a polygon in m2.
        picture: picture of the map; None for none.
        title: title of the picture; the scene's name if it is empty.
    """

    polygons: Path | None = None
    min_area: float = 0.0
    picture: Path | None = None
    title: str = ""

    def check(self, inputs: Sequence[Path], taken: Iterable[Path], *, overwrite: bool) -> None:
        """Check names and formats before a long run starts.

        Args:
            inputs: files that must not be replaced.
            taken: names of the other outputs.
            overwrite: whether existing files may be replaced.

        Raises:
            ConfigError: if a name is taken, has an unknown suffix, or exists.
        """
        names = {one.absolute() for one in taken}
        for path, check in ((self.polygons, _check_polygons), (self.picture, _check_picture)):
            if path is None:
                continue
            if path.absolute() in names:
                raise ConfigError("two outputs have the same name", where=path, hint="Give each file its own name")
            names.add(path.absolute())
            check(path)
            check_output(path, inputs, overwrite=overwrite)


def _check_polygons(path: Path) -> None:
    from zoo.rasters.polygons import check_polygons

    check_polygons(path)


def _check_picture(path: Path) -> None:
    from zoo.rasters.map_frame import check_picture

    check_picture(path)


def _area(path: Path, scene: Scene) -> Area:
    from zoo.rasters.vectors import Area

    return Area(path, scene.mosaic)


class Runner(Protocol):
    """Runner that computes blocks, in this process or on a cluster."""

    def __call__(self, blocks: Iterable[Block]) -> Results:
        """Yield the blocks as they are finished, in any order."""
        ...


@dataclass(frozen=True)
class MapRequest:
    """Request for a map: the arguments of :meth:`zoo.TrainedModel.map`, converted to internal types.

    Attributes:
        options: tiles, dtype and device.
        classes: names of classes and their breaks, None for breaks derived from the threshold; None for no classes.
        sets_out: file of the prediction sets (:class:`zoo.evaluation.quality.PredictionSets`); None for none.
        unlike_out: file of the distance of each tile from the training data; None for none.
        calibrated: apply the temperature fitted on the validation split.
        names: names of the scene's bands in order, if its files do not name them.
        scales: magnifications for adaptation to the scene; None for no adaptation.
        products: polygons and picture.
    """

    scene: tuple[str, ...]
    out: str
    options: MapOptions = field(default_factory=MapOptions)
    threshold: float | None = None
    classes: tuple[tuple[str, ...], tuple[float, ...] | None] | None = None
    classes_out: str | None = None
    spread_out: str | None = None
    sets_out: str | None = None
    unlike_out: str | None = None
    calibrated: bool = False
    mask: Path | None = None
    names: tuple[str, ...] | None = None
    precision: MapPrecision = "fp32"
    scales: Scales | None = None
    products: MapProducts = field(default_factory=MapProducts)
    any_pixel_size: bool = False
    resample: bool = False
    cloud_mask: str | None = None
    mask_clouds: bool = False
    cluster: str | None = None
    overwrite: bool = False

    def outputs(self) -> dict[Path, str]:
        """Return the local file of each output and its final name; remote outputs are written locally first.

        Raises:
            ConfigError: if a name does not end in .tif, or two outputs have the same name.
        """
        names = [self.out, *([] if self.classes is None else [self.classes_out or _append(self.out, "classes")])]
        names += [name for name in (self.spread_out, self.sets_out, self.unlike_out) if name is not None]
        places = [Path(file_label(name)) if is_remote(name) else Path(name) for name in names]
        for place in places:
            check_geotiff_name(place)
        if len({place.absolute() for place in places}) < len(places):
            raise ConfigError("two outputs have the same name", where=self.out, hint="Give each file its own name")
        return dict(zip(places, names, strict=True))

    def with_spread(self, members: int) -> MapRequest:
        """Return the request adjusted to the number of bundles, with the file of the spread if there is one.

        Raises:
            ConfigError: if an option does not support several predictions, or a spread of only one is requested.
        """
        if members > 1 and self.scales is not None:
            raise ConfigError(
                "an ensemble cannot be adapted during mapping",
                where="--adapt",
                hint="Adapt each bundle first: zoo adapt",
            )
        spread_out = self.spread_out or (_append(self.out, "spread") if members > 1 else None)
        if spread_out is not None and members == 1 and not self.options.tta:
            raise ConfigError(
                "a spread needs several predictions", where="--spread", hint="Add --ensemble BUNDLE, or --tta"
            )
        if spread_out is not None and self.cluster is not None:
            raise ConfigError("a spread is computed on this machine", where="--ray", hint="Leave out --ray")
        return replace(self, spread_out=spread_out)


def _append(out: str, what: str) -> str:
    """Return the default name of another raster of a map: ``prob-classes.tif`` for ``prob.tif``."""
    stem, dot, suffix = out.rpartition(".")
    return f"{stem}-{what}.{suffix}" if dot else f"{out}-{what}"


def map_bundle(
    bundle: Bundle,
    request: MapRequest,
    *,
    others: Sequence[Bundle] = (),
    progress: StageCallback | None = None,
    notify: Callable[[str], None] | None = None,
    warn: Callable[[str], None] | None = None,
) -> MapReport:
    """Map a scene with a bundle, and write the requested polygons and picture.

    Args:
        bundle: a trained model.
        request: what to map and how.
        others: further bundles of an ensemble. The map and its threshold are the means over all bundles [O].
        progress: called with the stage, the number of items done and the total.
        notify: called with sentences about choices that were made.
        warn: called once with each warning of the report, as soon as it is known.

    Raises:
        ZooError: if the bundles are not compatible with each other or with the scene, an output exists or cannot be
            written, the scene is truncated, or no pixel can be mapped.
    """
    notify, warn = notify or (lambda _: None), warn or (lambda _: None)
    started = time.monotonic()
    members = [bundle, *others]
    check_ensemble(members)
    options, request = request.options, request.with_spread(len(members))
    temperatures, sets = _fitted(members, request)
    threshold = _threshold(members, request, temperatures)
    outputs = _checked_outputs(request)
    places = {name: place for place, name in outputs.items()}
    classes = _classes(request, threshold)
    adapted = request.scales is not None
    poor = tuple(dict.fromkeys(text for each in members for text in quality_warnings(each.quality(adapted=adapted))))
    _notify_all(warn, poor)
    if others:
        notify(f"the map is the mean of {len(members)} models; their joint quality was not measured")
    raise_allocator_thresholds()
    with ExitStack() as exits:
        exits.enter_context(gdal_threads(request.scene[0]))
        scene = exits.enter_context(_open_scene(request, bundle))
        mask = None if request.mask is None else _area(request.mask, scene)
        clouds = exits.enter_context(Clouds(scene, file=request.cloud_mask, mask_bright=request.mask_clouds))
        _notify_all(notify, (*scene.choices, *clouds.sentences))
        warnings = _scene_warnings(scene, clouds)
        # On a cluster, the workers use the device; this machine adapts and chooses the form on its CPU.
        device = options.device if request.cluster is None else torch.device("cpu")
        tags = {**clouds.tags, **model_tags(members, adapted=adapted)}
        if request.scales is not None:
            members[0] = _adapted(bundle, scene, clouds, device, request, tags, progress, notify)
            threshold = _threshold(members, request, temperatures)
            classes = _classes(request, threshold)
        else:
            warnings += _shift_warnings(bundle, scene, clouds, device, progress)
        _notify_all(warn, warnings)
        # Measured with the original bundle, because an adapted one holds statistics of this scene.
        unlike = None if request.unlike_out is None else measure_tiles(bundle, scene, clouds, device, progress)
        predictors = _predictors(members, temperatures, device)
        if request.calibrated:
            tags["TEMPERATURE"] = ", ".join(f"{temperature:.6g}" for temperature in temperatures)
        fast, forms = _chosen_forms(predictors, scene, request, device, threshold, progress, notify)
        runner = _cluster_runner(request, predictors[0], forms[0], scene, mask, clouds, notify)
        # Ray prints messages about its machines, but standard output is for results.
        with redirect_stdout(sys.stderr):
            report = map_scene(
                fast[0],
                scene,
                places[request.out],
                options,
                threshold=threshold,
                mask=mask,
                clouds=clouds,
                classes=classes,
                classes_out=None if classes is None else places[request.classes_out or _append(request.out, "classes")],
                spread_out=None if request.spread_out is None else places[request.spread_out],
                sets=None if sets is None else (places[request.sets_out or ""], sets),
                unlike=None if unlike is None else (places[request.unlike_out or ""], unlike),
                others=fast[1:],
                tags={**tags, "PRECISION": request.precision, "FORM": ", ".join(form.name for form in forms)},
                identity={"predictor": ", ".join(map(predictor_digest, predictors))},
                runner=runner,
                overwrite=request.overwrite,
                finish=lambda found: make_products(found, scene, request.products, progress),
                progress=progress,
            )
        unlikely = share_warnings(report.above / report.mapped, bundle.landslide_share, adapted=adapted)
        report.model_warnings = (*poor, *unlikely)
        _upload(outputs)
    report.files = tuple(outputs.values())
    _notify_all(warn, (text for text in report.warnings() if text not in poor))
    report.notes = (*warnings, *report.notes)
    report.seconds, report.peak_memory = time.monotonic() - started, peak_memory()
    return report


def _predictors(members: Sequence[Bundle], temperatures: Sequence[float], device: torch.device) -> list[Predictor]:
    """Return the predictor of each bundle at its temperature."""
    predictors = [member.predictor().to(device) for member in members]
    for predictor, temperature in zip(predictors, temperatures, strict=True):
        predictor.temperature = temperature
    return predictors


def _upload(outputs: Mapping[Path, str]) -> None:
    """Upload finished files to their final addresses."""
    for local, name in outputs.items():
        if is_remote(name):
            upload(local, name)


def _notify_all(notify: Callable[[str], None], texts: Iterable[str]) -> None:
    for text in texts:
        notify(text)


def _fitted(members: Sequence[Bundle], request: MapRequest) -> tuple[list[float], PredictionSets | None]:
    """Return the temperature of each bundle, 1 for none, and the prediction sets if they are requested.

    Raises:
        ConfigError: if a bundle has none, or they are not valid for the requested map.
    """
    hint = "Measure its validation split: zoo evaluate BUNDLE --split val --record"
    adapted = request.scales is not None or any(member.adaptation is not None for member in members)
    found = [member.temperature for member in members]
    if request.calibrated and (adapted or None in found):
        problem = (
            "the temperature of the bundle does not apply to an adapted model"
            if adapted
            else "a bundle has no temperature"
        )
        raise ConfigError(problem, where="--calibrated", hint="Leave out --calibrated" if adapted else hint)
    temperatures = [one if request.calibrated and one is not None else 1.0 for one in found]
    if request.sets_out is None:
        return temperatures, None
    if adapted or len(members) > 1 or request.options.tta or request.calibrated:
        raise ConfigError(
            "prediction sets are valid only for the probability of a single model as it was trained",
            where="--sets",
            hint="Leave out --adapt, --ensemble, --tta and --calibrated",
        )
    if request.options.dtype != "float32":
        raise ConfigError(
            "prediction sets need the probability at full precision", where="--sets", hint="Add --dtype float32"
        )
    if members[0].sets is None:
        raise ConfigError("the bundle has no prediction sets", where="--sets", hint=hint)
    return temperatures, members[0].sets


def _threshold(members: Sequence[Bundle], request: MapRequest, temperatures: Sequence[float]) -> float:
    threshold = request.threshold
    if threshold is None:
        threshold = fmean(calibrated(member.threshold, t) for member, t in zip(members, temperatures, strict=True))
    if not 0 <= threshold <= 1:
        raise ConfigError(f"a threshold of {threshold:g} is not a probability", hint="Give a number from 0 to 1")
    return threshold


def _scene_warnings(scene: Scene, clouds: Clouds) -> list[str]:
    """Return the reasons why a map of a scene may be wrong or incomplete, as sentences."""
    constant = [
        f"band {name} is {value:g} in every pixel of the scene, so the model sees nothing in it; is its file empty?"
        for name, value in scene.constant_bands().items()
    ]
    return [text for text in (clouds.warning(), *constant) if text]


def _cluster_runner(
    request: MapRequest,
    predictor: Predictor,
    form: InferenceForm,
    scene: Scene,
    mask: Area | None,
    clouds: Clouds,
    notify: Callable[[str], None],
) -> Runner | None:
    """Return the runner on the cluster of a request; None for this machine."""
    if request.cluster is None:
        return None
    from zoo.mapping.cluster import cluster_runner

    return cluster_runner(
        request.cluster, predictor, form, scene, request.options, mask=mask, clouds=clouds, notify=notify
    )


def _chosen_forms(
    predictors: Sequence[Predictor],
    scene: Scene,
    request: MapRequest,
    device: torch.device,
    threshold: float,
    progress: StageCallback | None,
    notify: Callable[[str], None],
) -> tuple[list[Predictor], list[InferenceForm]]:
    """Return each predictor in its fastest form, and the forms."""
    plan = Plan(scene.shape, request.options.tile, request.options.overlap)
    if progress is not None:
        progress("choosing the fastest form of the model", 0, 1)
    found = [choose_form(predictor, scene, plan, request.precision, device, threshold) for predictor in predictors]
    _notify_all(notify, dict.fromkeys(text for _, _, messages in found for text in messages))
    return [one for one, _, _ in found], [form for _, form, _ in found]


def _open_scene(request: MapRequest, bundle: Bundle) -> Scene:
    return open_scene(
        request.scene,
        bundle,
        names=request.names,
        any_pixel_size=request.any_pixel_size,
        resample=request.resample,
    )


def _checked_outputs(request: MapRequest) -> dict[Path, str]:
    """Return :meth:`MapRequest.outputs` after checking them before a long run starts."""
    outputs = request.outputs()
    given = (*request.scene, request.mask, request.cloud_mask)
    places, inputs = list(outputs), [Path(value) for value in given if value is not None]
    # A run that was stopped while it published its files can be completed without --overwrite.
    replace_local = request.overwrite or half_published(places[0])
    for local, name in outputs.items():
        check_output(local, inputs, overwrite=replace_local)
        if is_remote(name):
            check_remote_output(name, overwrite=request.overwrite)
    request.products.check(inputs, places, overwrite=replace_local)
    return outputs


def _classes(request: MapRequest, threshold: float) -> ProbabilityClasses | None:
    if request.classes is None:
        return None
    names, breaks = request.classes
    if breaks is None:
        return ProbabilityClasses.from_threshold(names, map_threshold(threshold, request.options.dtype))
    return ProbabilityClasses(names, breaks)


def _adapted(
    bundle: Bundle,
    scene: Scene,
    clouds: Clouds,
    device: torch.device,
    request: MapRequest,
    tags: dict[str, str],
    progress: StageCallback | None,
    notify: Callable[[str], None],
) -> Bundle:
    show = _stage(progress, "adapting to the scene")
    adapted = adapt_to_scene(bundle, scene, device, show, scales=request.scales or ORIGINAL_SCALE, clouds=clouds)
    assert adapted.adaptation is not None
    share, first = adapted.adaptation.share, adapted.adaptation.shifts[0]
    chance = "" if first.chance is None else f", {first.chance:.2f} by chance"
    notify(
        f"adapted to {adapted.adaptation.target.used} windows of the scene, without labels: the first layer was "
        f"{first.distance:.2f} standard deviations away{chance}; the scene's share in the statistics is {share:.3g}"
    )
    if request.threshold is None:
        notify(f"the threshold is {adapted.threshold:.3g}; for the training regions it is {bundle.threshold:.3g}")
    tags["ADAPTED_SHARE"] = f"{share:g}"
    if adapted.scales != ORIGINAL_SCALE:
        tags["SCALES"] = ",".join(f"{scale:g}" for scale in adapted.scales)
        notify(f"magnifications: {tags['SCALES']}")
    return adapted


def make_products(
    report: MapReport, scene: Scene, products: MapProducts, progress: StageCallback | None = None
) -> None:
    """Write the polygons and picture of a finished map, and add them to its report; on failure, keep the map.

    Raises:
        ZooError: if a file cannot be written.
    """
    if products.polygons is None and products.picture is None:
        return
    found = ""
    try:
        with ProbabilityMap(report.out) as probability:
            if products.polygons is not None:
                report.polygons = map_polygons(
                    probability,
                    scene,
                    products.polygons,
                    report.threshold,
                    min_area=products.min_area,
                    classes=report.classes,
                    progress=_stage(progress, "outlining"),
                )
                found = f"{report.polygons.polygons:,} polygons, {report.polygons.area / 1e6:,.3f} km²"
            if products.picture is not None:
                from zoo.mapping.pictures import map_picture

                map_picture(probability, scene, products.picture, report.threshold, title=products.title, found=found)
                report.picture = products.picture
    except ZooError as error:
        hint = f"The map itself is complete: {report.out}. Outline it with zoo polygons {report.out}"
        raise type(error)(
            error.problem, where=error.where, hint=hint if error.hint is None else f"{error.hint}. {hint}"
        ) from error


# long: one parameter for each file and option of a map
def map_scene(
    predictor: Predictor,
    scene: Scene,
    out: Path,
    options: MapOptions | None = None,
    *,
    threshold: float = 0.5,
    mask: Area | None = None,
    clouds: Clouds | None = None,
    classes: ProbabilityClasses | None = None,
    classes_out: Path | None = None,
    spread_out: Path | None = None,
    sets: tuple[Path, PredictionSets] | None = None,
    unlike: tuple[Path, TileDistances] | None = None,
    others: Sequence[Predictor] = (),
    tags: Mapping[str, str] | None = None,
    identity: Mapping[str, Any] | None = None,
    runner: Runner | None = None,
    overwrite: bool = False,
    finish: Callable[[MapReport], None] | None = None,
    progress: StageCallback | None = None,
) -> MapReport:
    """Write the landslide probability of each pixel of a scene as a cloud-optimised GeoTIFF.

    Tiles are blended with weights that add up to exactly 1. The bytes do not depend on batch, threads or workers, and
    memory does not grow with the scene. Finished blocks are kept in a hidden folder next to ``out``; after an
    interruption, the same call resumes from them. ``out`` appears only when it is complete.

    A pixel that lacks a band is nodata in the map; in convolutions of its neighbours, the band's mean replaces it. The
    same holds for a pixel with an infinite value, or a value more than 10,000 standard deviations from the training
    mean. A pixel for which the model returns no finite probability is also nodata. The report counts both.

    Args:
        predictor: predictor in eval mode, on ``options.device``, for the bands of ``scene``.
        scene: an open scene.
        out: file of the probability.
        options: options of the map; None for the defaults.
        threshold: probability at or above which a pixel counts as landslide in the report; stored as a tag.
        mask: area to map; None for everywhere. Pixels outside are nodata.
        clouds: clouds of the scene, whose pixels are nodata; None to map them.
        classes: classes of ``classes_out``.
        classes_out: file of the classes: uint8 from 1, with colours, 0 for nodata; None for none.
        spread_out: file of the spread of several predictions, in the dtype of ``out``; None for none.
        sets: file of the prediction sets, and the sets; None for none.
        unlike: file of the distance from the training data, and the distances; None for none.
        others: further predictors to average with the first; they need ``spread_out``.
        tags: tags of the files.
        identity: other inputs that the bytes depend on, as JSON values. "predictor" replaces a digest of the weights,
            which predictors in an optimised form no longer have.
        runner: runner that computes blocks elsewhere; None for this process.
        overwrite: replace existing files.
        finish: called with the report when the files are in place, to make further products. If it is interrupted, the
            same call runs it again.
        progress: called with the stage, the number of items done and the total.

    Raises:
        ZooError: if an output exists, cannot be written or is being written by another process; if the scene is
            truncated; or if no pixel can be mapped.
    """
    options = options or MapOptions()
    if (classes is None) != (classes_out is None):
        raise ConfigError("classes and classes_out must be given together")
    if not 0 <= threshold <= 1:
        raise ConfigError(f"a threshold of {threshold:g} is not a probability", hint="Give a number from 0 to 1")
    inputs = [Path(path) for path in scene.mosaic.paths]
    sets_out, unlike_out = (None if one is None else one[0] for one in (sets, unlike))
    outputs = (out, *(one for one in (classes_out, spread_out, sets_out, unlike_out) if one is not None))
    _check_paths(outputs, inputs, overwrite=overwrite or half_published(out))
    applied = None if classes is None else classes.as_applied(options.dtype)
    plan = Plan(scene.shape, options.tile, options.overlap)
    shared = {
        **_scene_tags(scene),
        **(tags or {}),
        "TILE": str(options.tile),
        "OVERLAP": str(options.overlap),
        "TEST_TIME_AVERAGING": "D4" if options.tta else "none",
        "ZOO_VERSION": __version__,
        **({} if mask is None else {"MASK": mask.path.name}),
    }
    key = {
        "tags": shared,
        "mask": None if mask is None else _file_digest(mask.path),
        "clouds": None if clouds is None else clouds.identity(),
        "threshold": threshold,
        "classes": None if applied is None else asdict(applied),
        "classes_out": None if classes_out is None else str(classes_out),
        **({} if spread_out is None else {"spread_out": str(spread_out)}),
        **({} if sets is None else {"sets": [str(sets[0]), asdict(sets[1])]}),
        **({} if unlike_out is None else {"unlike_out": str(unlike_out)}),
        "device": describe_environment(options.device).device_name if runner is None else options.device.type,
        **_pixel_key((predictor, *others), scene, options, identity or {}),
    }
    with ExitStack() as exits:
        for path in outputs:
            exits.enter_context(_exclusive(path))
        journal = exits.enter_context(Journal(out, key))
        _check_paths(outputs, inputs, overwrite=overwrite or journal.publishing)
        done, damaged = journal.finished(plan, () if spread_out is None else SPREAD_LAYERS)
        spread = spread_out is not None
        labels = sum(one is not None for one in (classes_out, sets_out))
        room = np.dtype(options.dtype).itemsize * (1 + spread) + labels + 4 * (unlike is not None)
        _check_disk_space(journal, out, scene.shape, room)
        pending = [block for block in plan.blocks() if (block.row, block.column) not in done]
        runner = runner or local_runner([predictor, *others], scene, plan, options, mask, clouds, spread=spread)
        _compute(runner, pending, journal, len(done), progress)
        report = MapReport(
            out,
            classes_out,
            scene.shape,
            plan.tile_count,
            pixel_area(scene.mosaic.crs, scene.mosaic.transform, scene.shape),
            len(done) + len(pending),
            len(done),
            map_threshold(threshold, options.dtype),
            applied,
            damaged,
        )
        report.notes, report.spread_out, report.sets, report.unlike = scene.notes, spread_out, sets, unlike
        _publish(report, scene, plan, journal, shared, options, progress)
        _finish(report, journal, finish)
    return report


def _check_paths(outputs: Iterable[Path], inputs: Sequence[Path], *, overwrite: bool) -> None:
    for path in outputs:
        check_geotiff_name(path)
        check_output(path, inputs, overwrite=overwrite)


def _compute(
    runner: Runner, pending: Sequence[Block], journal: Journal, done: int, progress: StageCallback | None
) -> None:
    total = done + len(pending)
    with closing(runner(pending)) as results:
        for number, (block, result) in enumerate(results, done + 1):
            journal.save(block, result)
            if progress is not None:
                progress("mapping", number, total)


def _finish(report: MapReport, journal: Journal, finish: Callable[[MapReport], None] | None) -> None:
    """Call ``finish`` and remove the journal; only an interruption leaves it for the next run."""
    try:
        if finish is not None:
            finish(report)
    except Exception:
        journal.discard()
        raise
    journal.discard()


def _pixel_key(
    predictors: Sequence[Predictor], scene: Scene, options: MapOptions, identity: Mapping[str, Any]
) -> dict[str, Any]:
    """Return the part of a journal's key that determines the value of a pixel."""
    return {
        "predictor": identity.get("predictor") or ", ".join(map(predictor_digest, predictors)),
        "scene": scene.identity(),
        "dtype": options.dtype,
        "compress": options.compress,
        "versions": {"torch": torch.__version__, "numpy": np.__version__},
        **identity,
    }


def _publish(
    report: MapReport,
    scene: Scene,
    plan: Plan,
    journal: Journal,
    tags: Mapping[str, str],
    options: MapOptions,
    progress: StageCallback | None,
) -> None:
    """Write the files of a map; remove its journal if the scene turns out to be damaged."""
    try:
        write_map(
            report,
            scene.mosaic,
            plan,
            journal,
            dtype=options.dtype,
            tags=tags,
            compress=options.compress,
            progress=_stage(progress, "writing"),
        )
    except DataError as error:
        journal.discard()
        raise DataError(error.problem, where=scene.mosaic.paths[0], hint=error.hint) from None


def peak_memory() -> int:
    """Return the peak memory of this process so far in bytes."""
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else peak * 1024


def _exclusive(out: Path) -> Any:
    """Lock an output, because two processes that write one file would mix their results."""
    try:
        out.parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise unwritable(out, error) from error
    busy = ZooError("another process is writing this map", where=out, hint="Wait for it, stop it, or use another --out")
    return locked(out.parent / f".{out.name}.lock", busy, remove=True)


def _stage(progress: StageCallback | None, name: str) -> ProgressCallback | None:
    return None if progress is None else lambda done, total: progress(name, done, total)


def local_runner(
    predictors: Sequence[Predictor],
    scene: Scene,
    plan: Plan,
    options: MapOptions,
    mask: Area | None = None,
    clouds: Clouds | None = None,
    *,
    spread: bool = False,
) -> Runner:
    """Return a runner in this process, for one predictor or for the mean and spread of several."""
    members = [TileForward(predictor, options.device, tta=options.tta) for predictor in predictors]
    forward = SpreadForward(members) if spread else members[0]

    def run(blocks: Iterable[Block]) -> Results:
        return compute_blocks(
            scene,
            forward,
            plan,
            blocks,
            np.dtype(options.dtype),
            plausible=PlausibleRange.common(predictors),
            mask=None if mask is None else AreaMask(mask),
            clouds=clouds if clouds is not None and clouds.masks else None,
            threads=options.workers,
            batch=options.batch,
            layers=SPREAD_LAYERS if spread else (),
        )

    return run


def predictor_digest(predictor: Predictor) -> str:
    """Return a sha256 of weights, buffers, normalisation, magnifications and temperature, to tell predictors apart."""
    model = predictor.model
    digest = hashlib.sha256(f"{type(model).__qualname__} {model.extra_repr()} {predictor.temperature}".encode())
    tensors = {**predictor.state_dict(), "mean": predictor.mean, "std": predictor.std}
    for name in sorted(tensors):
        tensor = tensors[name].detach().cpu().contiguous()
        digest.update(f"{name} {tensor.dtype} {tuple(tensor.shape)}".encode())
        digest.update(tensor.reshape(-1).view(torch.uint8).numpy().tobytes())
    return digest.hexdigest()


def _file_digest(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _scene_tags(scene: Scene) -> dict[str, str]:
    tags = {name: scene.mosaic.tags[name] for name in ("SCENE", "DATE", "PHASE") if name in scene.mosaic.tags}
    if scene.product is not None:
        tags.update(SCENE=scene.product.scene, DATE=scene.product.date)
    tags.setdefault("SCENE", scene.stem)
    if scene.resampled_to is not None:
        tags["RESAMPLED_TO"] = f"{scene.resampled_to:g} m"
    if scene.scale is not None:
        tags["COLOURS"] = scene.scale.words
    return {**tags, "BANDS": ", ".join(f"{band.name} [{band.unit}]" for band in scene.bands)}


def _check_disk_space(journal: Journal, out: Path, shape: tuple[int, int], pixel: int) -> None:
    """Check that the disk has room for files with ``pixel`` bytes per pixel."""
    needed = DISK_FACTOR * shape[0] * shape[1] * pixel
    present = sum(path.stat().st_size for path in journal.folder.glob(BLOCKS))
    check_disk_space(out, needed - present, out.parent)


def adapt_to_scene(
    bundle: Bundle,
    scene: Scene,
    device: torch.device,
    progress: ProgressCallback | None = None,
    *,
    scales: Scales = ORIGINAL_SCALE,
    clouds: Clouds | None = None,
) -> Bundle:
    """Re-estimate the normalisation statistics of a bundle on windows of a scene, without labels.

    The share of the scene in the statistics is chosen without labels and may be 0; see
    :func:`zoo.training.adaptation.adapt`. Sums are computed on one thread, so the same scene gives the same bundle.

    Args:
        bundle: a trained model.
        scene: an open scene.
        device: device to compute on.
        progress: called with the number of steps done and the total.
        scales: magnifications at which each tile is presented to the bundle, or ``auto`` to choose one.
        clouds: clouds of the scene; their pixels have no weight, even where they are mapped.

    Raises:
        ZooError: if the model has no running statistics, or no window has a pixel with all bands.
    """
    plausible = PlausibleRange.of(bundle.at_original_scale().predictor())
    with single_threaded_passes():
        target = AdaptationTarget(scene=scene.mosaic.paths[0])
        windows = _windows(scene, plausible, clouds)
        return adapt(bundle, windows, scales=scales, device=device, target=target, progress=progress)


def _shift_warnings(
    bundle: Bundle, scene: Scene, clouds: Clouds, device: torch.device, progress: StageCallback | None
) -> list[str]:
    """Return a warning if the scene is unlike the training data; none if it is not, or has no data."""
    if progress is not None:
        progress("comparing the scene with the training data", 0, 1)
    plausible = PlausibleRange.of(bundle.at_original_scale().predictor())
    windows = _windows(scene, plausible, clouds, SHIFT_WINDOWS)
    names = [band.name for band in bundle.bands]
    try:
        with single_threaded_passes():
            sample = PatchSample.draw(windows, names, pixels=SHIFT_WINDOWS * SIDE * SIDE, seed=0)
            found = measure_domain_shift(bundle, sample, device)
    except DataError:
        return []  # a map without valid pixels raises its own error
    if not found.is_large:
        return []
    advice = " Adapt the model to the scene: --adapt" if found.distance is not None else ""
    return [f"the scene is unlike the training data: {found.sentence()}. The map may be poor.{advice}"]


def _windows(
    scene: Scene, plausible: PlausibleRange, clouds: Clouds | None = None, count: int = WINDOWS
) -> Iterator[Tensor]:
    """Yield a window from each cell of a regular grid, at a random position (fixed seed); all windows if few.

    Pixels under clouds are missing, whether they are mapped or not.
    """
    height, width = scene.shape
    down = min(-(-height // SIDE), max(1, round((count * height / width) ** 0.5)))
    across = min(-(-width // SIDE), max(1, count // down))
    generator = np.random.default_rng(0)
    rows, columns = min(SIDE, height), min(SIDE, width)
    for row in range(down):
        for column in range(across):
            top = _random_start(generator, row, down, height - rows)
            left = _random_start(generator, column, across, width - columns)
            place = PixelRange(top, top + rows), PixelRange(left, left + columns)
            image: NDArray[np.float32] = scene.read(*place)
            plausible.clean(image)
            if clouds is not None:
                image[:, clouds.hidden(*place) | clouds.bright(*place)] = np.nan
            yield torch.from_numpy(image)[None]


def _random_start(generator: np.random.Generator, cell: int, cells: int, room: int) -> int:
    first, last = cell * room // cells, (cell + 1) * room // cells
    return int(generator.integers(first, last + 1))
