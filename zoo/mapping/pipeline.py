"""From a bundle and a scene to a map: adaptation, tiles, files, polygons and picture."""

from __future__ import annotations

import hashlib
import resource
import sys
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack, closing, redirect_stdout
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from zoo import __version__
from zoo.deploy import raise_allocator_thresholds
from zoo.errors import ConfigError, DataError, ZooError
from zoo.evaluation.quality import quality_line, quality_warnings, share_warnings
from zoo.files import check_output, locked, unwritable
from zoo.jobs import ProgressCallback, StageCallback
from zoo.mapping.clouds import Clouds
from zoo.mapping.inference import (
    AreaMask,
    MapOptions,
    MapPrecision,
    Results,
    TileForward,
    choose_form,
    compute_blocks,
    single_threaded_passes,
)
from zoo.mapping.journal import BLOCKS, Journal, half_published
from zoo.mapping.output import MapReport, ProbabilityMap, map_polygons, write_map
from zoo.mapping.probability import ProbabilityClasses, map_threshold
from zoo.mapping.scene import Scene, open_scene
from zoo.mapping.tiling import Block, Plan, Reach
from zoo.rasters.cog import check_geotiff_name, check_room
from zoo.rasters.ground import pixel_area
from zoo.rasters.polygons import check_polygons
from zoo.rasters.reading import check_remote_output, file_label, gdal_threads, is_remote, upload
from zoo.rasters.vectors import Area
from zoo.training.adaptation import Scales, adapt
from zoo.training.adaptation_data import PatchSample
from zoo.training.bundle import AdaptationTarget, Bundle
from zoo.training.compute import describe_environment
from zoo.training.predictor import ORIGINAL_SCALE, PlausibleRange, Predictor
from zoo.training.unlikeness import measure_unlikeness

ROOM = 3.8
"""Disk space in multiples of the map's bytes: its blocks, a working file with overviews, and the finished file."""

WINDOWS, SIDE = 128, 128
"""Number of windows that a bundle is adapted to, spread over the scene, and their side in pixels [O]."""

COMPARED = 48
"""Number of windows by which a scene is compared with the training data [O]."""


@dataclass(frozen=True)
class MapProducts:
    """What is made of a finished map.

    Attributes:
        polygons: GeoPackage or GeoParquet file of the landslides; None for none.
        min_area: area in m2 below which a polygon is left out.
        picture: picture of the map; None for none.
        title: title of the picture; the scene's name if it is empty.
    """

    polygons: Path | None = None
    min_area: float = 0.0
    picture: Path | None = None
    title: str = ""

    def check(self, inputs: Sequence[Path], taken: Iterable[Path], *, overwrite: bool) -> None:
        """Check names and formats before hours of work are done.

        Args:
            inputs: files that must not be replaced.
            taken: names of the other outputs.
            overwrite: whether existing files may be replaced.

        Raises:
            ConfigError: if a name is taken, has an unknown suffix, or exists.
        """
        from zoo.rasters.map_frame import check_picture

        names = {one.absolute() for one in taken}
        for path, check in ((self.polygons, check_polygons), (self.picture, check_picture)):
            if path is None:
                continue
            if path.absolute() in names:
                raise ConfigError("two outputs have the same name", where=path, hint="Give each file its own name")
            names.add(path.absolute())
            check(path)
            check_output(path, inputs, overwrite=overwrite)


class Runner(Protocol):
    """Computes blocks, in this process or on a cluster."""

    def __call__(self, blocks: Iterable[Block]) -> Results:
        """Yield the blocks as they are finished, in any order."""
        ...


@dataclass(frozen=True)
class MapRequest:
    """A map to be made with a bundle.

    Attributes:
        scene: raster, VRT, or several rasters of one pixel grid.
        out: file of the probabilities, or an address that GDAL can write to.
        options: tiles, dtype and device.
        threshold: probability from which a pixel counts as landslide; None for the bundle's.
        classes: names of classes, and their breaks or None for breaks that follow from the threshold; None for no
            classes.
        classes_out: file of the classes; None for ``OUT-classes.tif``.
        mask: vector file of the area to map; None for everywhere.
        names: names of the scene's bands in order, if its files do not name them.
        precision: precision of the model's arithmetic.
        scales: magnifications for an adaptation to the scene; None for no adaptation.
        products: polygons and picture.
        any_pixel_size: map a scene whose pixels have another size than the training data's.
        resample: resample such a scene; the map then has pixels of the training data's size.
        cloud_mask: raster of clouds; see :class:`zoo.mapping.clouds.Clouds`.
        mask_clouds: leave bright white regions out of the map.
        cluster: address of a Ray cluster; None for this machine.
        overwrite: replace existing files.
    """

    scene: tuple[str, ...]
    out: str
    options: MapOptions = field(default_factory=MapOptions)
    threshold: float | None = None
    classes: tuple[tuple[str, ...], tuple[float, ...] | None] | None = None
    classes_out: str | None = None
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
        """Return the local file of each output and its final name; what belongs to an address is made here first.

        Raises:
            ConfigError: if a name does not end in .tif, or two outputs have the same name.
        """
        stem, dot, suffix = self.out.rpartition(".")
        classes_out = self.classes_out or (f"{stem}-classes.{suffix}" if dot else f"{self.out}-classes")
        names = [self.out, *([] if self.classes is None else [classes_out])]
        places = [Path(file_label(name)) if is_remote(name) else Path(name) for name in names]
        for place in places:
            check_geotiff_name(place)
        if len({place.absolute() for place in places}) < len(places):
            raise ConfigError("two outputs have the same name", where=self.out, hint="Give each file its own name")
        return dict(zip(places, names, strict=True))


def map_bundle(
    bundle: Bundle,
    request: MapRequest,
    *,
    progress: StageCallback | None = None,
    notify: Callable[[str], None] | None = None,
) -> MapReport:
    """Map a scene with a bundle, and write the polygons and the picture that are asked for.

    Args:
        bundle: a trained model.
        request: what to map and how.
        progress: called with stage, number of items done and number of all items.
        notify: called with sentences about choices that were made.

    Raises:
        ZooError: if the scene does not fit the bundle, an output exists or cannot be written, the scene is truncated,
            or no pixel can be mapped.
    """
    notify = notify or (lambda _: None)
    started = time.monotonic()
    options = request.options
    threshold = bundle.threshold if request.threshold is None else request.threshold
    if not 0 <= threshold <= 1:
        raise ConfigError(f"a threshold of {threshold:g} is not a probability", hint="Give a number from 0 to 1")
    outputs = _checked_outputs(request)
    places = list(outputs)
    classes = _classes(request, threshold)
    poor = quality_warnings(bundle.quality(adapted=request.scales is not None))
    _notify_all(notify, poor)
    raise_allocator_thresholds()
    with ExitStack() as exits:
        exits.enter_context(gdal_threads(request.scene[0]))
        scene = exits.enter_context(_open_scene(request, bundle))
        mask = None if request.mask is None else Area(request.mask, scene.mosaic)
        clouds = exits.enter_context(Clouds(scene, file=request.cloud_mask, mask_bright=request.mask_clouds))
        _notify_all(notify, (*scene.choices, *clouds.sentences))
        warnings = [text for text in (clouds.warning(),) if text]
        # On a cluster, the workers use the device; this machine adapts and chooses the form on its processor.
        device = options.device if request.cluster is None else torch.device("cpu")
        tags = {**clouds.tags, **_model_tags(bundle, request)}
        if request.scales is not None:
            bundle = _adapted(bundle, scene, clouds, device, request.scales, tags, progress, notify)
        else:
            warnings += _unlike(bundle, scene, clouds, device, progress)
        _notify_all(notify, warnings)
        predictor = bundle.predictor().to(device)
        plan = Plan(scene.shape, options.tile, options.overlap)
        if progress is not None:
            progress("choosing the fastest form of the model", 0, 1)
        fast, form, messages = choose_form(predictor, scene, plan, request.precision, device, threshold)
        _notify_all(notify, messages)
        runner: Runner | None = None
        if request.cluster is not None:
            from zoo.mapping.cluster import cluster_runner

            runner = cluster_runner(
                request.cluster, predictor, form, scene, options, mask=mask, clouds=clouds, notify=notify
            )
        # Ray prints messages about its machines, but standard output is for results.
        with redirect_stdout(sys.stderr):
            report = map_scene(
                fast,
                scene,
                places[0],
                options,
                threshold=threshold,
                mask=mask,
                clouds=clouds,
                classes=classes,
                classes_out=places[1] if classes is not None else None,
                tags={**tags, "PRECISION": request.precision, "FORM": form.name},
                identity={"predictor": predictor_digest(predictor)},
                runner=runner,
                overwrite=request.overwrite,
                finish=lambda found: make_products(found, scene, request.products, progress),
                progress=progress,
            )
        report.model_warnings = (
            *poor,
            *share_warnings(report.above / report.mapped, bundle.landslide_share),
        )
        for local, name in outputs.items():
            if is_remote(name):
                upload(local, name)
    report.files = tuple(outputs.values())
    report.notes = (*warnings, *report.notes)
    report.seconds, report.peak_memory = time.monotonic() - started, peak_memory()
    return report


def _notify_all(notify: Callable[[str], None], texts: Iterable[str]) -> None:
    for text in texts:
        notify(text)


def _model_tags(bundle: Bundle, request: MapRequest) -> dict[str, str]:
    adapted = request.scales is not None or bundle.adaptation is not None
    quality = quality_line(bundle.quality(adapted=adapted), adapted=adapted)
    label = {"LABEL": bundle.label} if bundle.label else {}
    return {"MODEL": bundle.model, "WEIGHTS_SHA256": bundle.weights_sha256, "QUALITY": quality, **label}


def _open_scene(request: MapRequest, bundle: Bundle) -> Scene:
    return open_scene(
        request.scene,
        bundle,
        names=request.names,
        any_pixel_size=request.any_pixel_size,
        resample=request.resample,
    )


def _checked_outputs(request: MapRequest) -> dict[Path, str]:
    """Return :meth:`MapRequest.outputs`, checked before hours of work are done."""
    outputs = request.outputs()
    places, inputs = list(outputs), [Path(one) for one in request.scene]
    # A run that was stopped between its first file and its last is completed without --overwrite.
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
    scales: Scales,
    tags: dict[str, str],
    progress: StageCallback | None,
    notify: Callable[[str], None],
) -> Bundle:
    adapted = adapt_to_scene(
        bundle, scene, device, _stage(progress, "adapting to the scene"), scales=scales, clouds=clouds
    )
    assert adapted.adaptation is not None
    share, first = adapted.adaptation.share, adapted.adaptation.shifts[0]
    chance = "" if first.chance is None else f", {first.chance:.2f} by chance"
    notify(
        f"adapted to {adapted.adaptation.target.used} windows of the scene, without labels: the first layer was "
        f"{first.distance:.2f} standard deviations away{chance}; the scene's share in the statistics is {share:.3g}"
    )
    tags["ADAPTED_SHARE"] = f"{share:g}"
    if adapted.scales != ORIGINAL_SCALE:
        tags["SCALES"] = ",".join(f"{scale:g}" for scale in adapted.scales)
        notify(f"magnifications: {tags['SCALES']}")
    return adapted


def make_products(
    report: MapReport, scene: Scene, products: MapProducts, progress: StageCallback | None = None
) -> None:
    """Write polygons and picture of a finished map, and add them to its report. The map stays if that fails.

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
                from zoo.mapping.map_picture import map_picture

                map_picture(probability, scene, products.picture, report.threshold, title=products.title, found=found)
                report.picture = products.picture
    except ZooError as error:
        hint = f"The map itself is complete: {report.out}. Outline it with zoo polygons {report.out}"
        raise type(error)(
            error.problem, where=error.where, hint=hint if error.hint is None else f"{error.hint}. {hint}"
        ) from error


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
    tags: Mapping[str, str] | None = None,
    identity: Mapping[str, Any] | None = None,
    runner: Runner | None = None,
    overwrite: bool = False,
    finish: Callable[[MapReport], None] | None = None,
    progress: StageCallback | None = None,
) -> MapReport:
    """Write the landslide probability of every pixel of a scene as a cloud-optimised GeoTIFF.

    Tiles are blended by windows that add up to exactly 1. The bytes do not depend on batch, threads or workers, and
    memory does not grow with the scene. Finished blocks lie in a hidden folder beside ``out``; after an interruption
    the same call resumes from them. ``out`` appears when it is complete.

    A pixel that lacks a band is nodata in the map. Where a convolution reaches it, the predictor takes the band's mean.
    The same holds for a pixel with an infinite value, or one more than 10,000 standard deviations from the training
    mean. A pixel for which the model gives no finite probability is nodata too. The report counts both.

    Args:
        predictor: in eval mode, on ``options.device``; takes the bands of ``scene``.
        scene: an open scene.
        out: file of the probability.
        options: how the map is made.
        threshold: probability from which a pixel counts as landslide in the report; kept as a tag.
        mask: area to map; None for everywhere. Pixels outside are nodata.
        clouds: clouds of the scene, whose pixels are nodata; None to map them.
        classes: classes of ``classes_out``.
        classes_out: file of the classes: uint8 from 1, with colours, 0 for nodata; None for none.
        tags: tags of the files.
        identity: what else the bytes depend on, as JSON values. "predictor" replaces a digest of the weights, which a
            predictor in an optimised form no longer has.
        runner: computes blocks elsewhere; None for here.
        overwrite: replace existing files.
        finish: called with the report when the files have their names, for what is made of them. If that is
            interrupted, the same call makes it again.
        progress: called with stage, number of items done and number of all items.

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
    outputs = (out, *([] if classes_out is None else [classes_out]))
    for path in outputs:
        check_geotiff_name(path)
        check_output(path, inputs, overwrite=overwrite or half_published(out))
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
        "device": describe_environment(options.device).device_name if runner is None else options.device.type,
        **_pixel_key(predictor, scene, options, identity or {}),
    }
    with ExitStack() as exits:
        for path in outputs:
            exits.enter_context(_exclusive(path))
        journal = exits.enter_context(Journal(out, key))
        for path in outputs:
            check_output(path, inputs, overwrite=overwrite or journal.publishing)
        done, damaged = journal.finished(plan)
        _check_room(journal, out, scene.shape, options.dtype, classes is not None)
        todo = [block for block in plan.blocks() if (block.row, block.column) not in done]
        if runner is None:
            runner = local_runner(predictor, scene, plan, options, mask, clouds)
        total = len(done) + len(todo)
        _compute(runner, todo, journal, len(done), progress)
        report = MapReport(
            out,
            classes_out,
            scene.shape,
            plan.tile_count,
            pixel_area(scene.mosaic.crs, scene.mosaic.transform, scene.shape),
            total,
            len(done),
            map_threshold(threshold, options.dtype),
            applied,
            damaged,
        )
        report.notes = scene.notes
        _publish(report, scene, plan, journal, shared, options, progress)
        _finish(report, journal, finish)
    return report


def _compute(
    runner: Runner, todo: Sequence[Block], journal: Journal, done: int, progress: StageCallback | None
) -> None:
    total = done + len(todo)
    with closing(runner(todo)) as results:
        for number, (block, result) in enumerate(results, done + 1):
            journal.save(block, result)
            if progress is not None:
                progress("mapping", number, total)


def _finish(report: MapReport, journal: Journal, finish: Callable[[MapReport], None] | None) -> None:
    """Call ``finish`` and remove the journal, which only an interruption leaves for the next run."""
    try:
        if finish is not None:
            finish(report)
    except Exception:
        journal.discard()
        raise
    journal.discard()


def _pixel_key(predictor: Predictor, scene: Scene, options: MapOptions, identity: Mapping[str, Any]) -> dict[str, Any]:
    """Return the part of a journal's key that decides the value of a pixel."""
    return {
        "predictor": identity.get("predictor") or predictor_digest(predictor),
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
    """Return the largest memory of this process so far in bytes."""
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else peak * 1024


def _exclusive(out: Path) -> Any:
    """Lock an output: two processes that make one file would mix their results."""
    try:
        out.parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise unwritable(out, error) from error
    busy = ZooError("another process is writing this map", where=out, hint="Wait for it, stop it, or use another --out")
    return locked(out.parent / f".{out.name}.lock", busy, remove=True)


def _stage(progress: StageCallback | None, name: str) -> ProgressCallback | None:
    return None if progress is None else lambda done, total: progress(name, done, total)


def local_runner(
    predictor: Predictor,
    scene: Scene,
    plan: Plan,
    options: MapOptions,
    mask: Area | None = None,
    clouds: Clouds | None = None,
) -> Runner:
    """Return a runner that computes blocks in this process."""
    forward = TileForward(predictor, options.device, tta=options.tta)

    def run(blocks: Iterable[Block]) -> Results:
        return compute_blocks(
            scene,
            forward,
            plan,
            blocks,
            np.dtype(options.dtype),
            plausible=PlausibleRange.of(predictor),
            mask=None if mask is None else AreaMask(mask),
            clouds=clouds if clouds is not None and clouds.masks else None,
            threads=options.workers,
            batch=options.batch,
        )

    return run


def predictor_digest(predictor: Predictor) -> str:
    """Return a sha256 of weights, buffers, normalisation and magnifications, which tells predictors apart."""
    model = predictor.model
    digest = hashlib.sha256(f"{type(model).__qualname__} {model.extra_repr()}".encode())
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


def _check_room(journal: Journal, out: Path, shape: tuple[int, int], dtype: str, classes: bool) -> None:
    needed = ROOM * shape[0] * shape[1] * (np.dtype(dtype).itemsize + classes)
    present = sum(path.stat().st_size for path in journal.folder.glob(BLOCKS))
    check_room(out, needed - present, out.parent)


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
        device: device of the computation.
        progress: called with the number of steps done and the number of all steps.
        scales: magnifications at which the bundle sees every tile, or ``auto`` to choose one.
        clouds: clouds of the scene, whose pixels have no weight, also where they are mapped.

    Raises:
        ZooError: if the model has no running statistics, or no window has a pixel with all bands.
    """
    plausible = PlausibleRange.of(bundle.at_original_scale().predictor())
    with single_threaded_passes():
        target = AdaptationTarget(scene=scene.mosaic.paths[0])
        windows = _windows(scene, plausible, clouds)
        return adapt(bundle, windows, scales=scales, device=device, target=target, progress=progress)


def _unlike(
    bundle: Bundle, scene: Scene, clouds: Clouds, device: torch.device, progress: StageCallback | None
) -> list[str]:
    """Return a warning if the scene is unlike the training data; none if it is not, or has no data."""
    if progress is not None:
        progress("comparing the scene with the training data", 0, 1)
    plausible = PlausibleRange.of(bundle.at_original_scale().predictor())
    windows = _windows(scene, plausible, clouds, COMPARED)
    names = [band.name for band in bundle.bands]
    try:
        with single_threaded_passes():
            sample = PatchSample.draw(windows, names, pixels=COMPARED * SIDE * SIDE, seed=0)
            found = measure_unlikeness(bundle, sample, device)
    except DataError:
        return []  # without a valid pixel the map itself says what is wrong
    if not found.far:
        return []
    advice = " Adapt the model to the scene: --adapt" if found.distance is not None else ""
    return [f"the scene is unlike the training data: {found.sentence()}. The map may be poor.{advice}"]


def _windows(
    scene: Scene, plausible: PlausibleRange, clouds: Clouds | None = None, count: int = WINDOWS
) -> Iterator[Tensor]:
    """Yield one window of each cell of an even grid, at a place drawn with a fixed seed; all of a small scene.

    Pixels under clouds are missing, whether they are mapped or not.
    """
    height, width = scene.shape
    down = min(-(-height // SIDE), max(1, round((count * height / width) ** 0.5)))
    across = min(-(-width // SIDE), max(1, count // down))
    generator = np.random.default_rng(0)
    rows, columns = min(SIDE, height), min(SIDE, width)
    for row in range(down):
        for column in range(across):
            top = _place(generator, row, down, height - rows)
            left = _place(generator, column, across, width - columns)
            place = Reach(top, top + rows), Reach(left, left + columns)
            image: NDArray[np.float32] = scene.read(*place)
            plausible.clean(image)
            if clouds is not None:
                image[:, clouds.hidden(*place) | clouds.bright(*place)] = np.nan
            yield torch.from_numpy(image)[None]


def _place(generator: np.random.Generator, cell: int, cells: int, room: int) -> int:
    first, last = cell * room // cells, (cell + 1) * room // cells
    return int(generator.integers(first, last + 1))
