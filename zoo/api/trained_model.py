"""``zoo.load`` and ``TrainedModel``: use a trained model."""

from __future__ import annotations

import html
import os
import warnings
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from zoo.api.arrays import predict_labelled, read_array
from zoo.datasets.source import DataSource
from zoo.errors import ConfigError, DataError, UnknownNameError
from zoo.files import PathLike
from zoo.registry import list_datasets

if TYPE_CHECKING:
    import torch
    from numpy.typing import NDArray

    from zoo.api.evaluation import SplitEvaluation
    from zoo.api.export import Exported
    from zoo.bench.results import TrialResult
    from zoo.jobs import ProgressCallback, StageCallback
    from zoo.mapping.explanation import SceneExplanation
    from zoo.mapping.inference import TileForward
    from zoo.mapping.output import MapReport
    from zoo.physics.bands import Band
    from zoo.training.bundle import Bundle
    from zoo.training.bundle_layout import Adaptation
    from zoo.training.predictor import Predictor

Data = PathLike | DataSource


def load(
    source: PathLike,
    *,
    device: str = "auto",
    sha256: str | None = None,
    progress: ProgressCallback | None = None,
    notify: Callable[[str], None] | None = None,
) -> TrainedModel:
    """Open a trained model.

    Args:
        source: folder of a bundle, which ``zoo train``, ``zoo bench`` or :meth:`TrainedModel.save` wrote; name of
            weights that :func:`zoo.list_weights` lists; ``.zip`` file of a bundle; its address, such as
            ``https://host/unet.zip#sha256=...``; or ``hf://owner/repo@revision``. A remote bundle is downloaded once.
        device: ``auto``, ``cpu``, ``cuda``, ``cuda:1`` or ``mps``; ``auto`` is the first GPU, or the CPU.
        sha256: checksum of the ``.zip`` file, if its URL does not end with it.
        progress: called with the number of bytes downloaded or unpacked and the total.
        notify: called with messages for the user; by default they are warnings.

    Returns:
        The model with its bands, normalisation and threshold.

    Raises:
        ResultError: if there is no bundle, it is damaged or altered, or its model card describes another one.
        ConfigError: if ``source`` is the name of an architecture, which has no trained weights.
        DataError: if it cannot be downloaded or unpacked, or has another checksum.

    Examples:
        >>> model = zoo.load("runs/unet")  # doctest: +SKIP
        >>> model  # doctest: +SKIP
        TrainedModel(unet, 7 bands, trained on bijie, test Dice 0.712, threshold 0.315)
        >>> probability = model.predict("scene.tif")  # doctest: +SKIP
    """
    from zoo.weights.sources import resolve

    folder = resolve(source, sha256=sha256, progress=progress, notify=notify or _warn)
    from zoo.training.bundle import Bundle

    # Figures can be recorded only in a folder of the user, not in shared weights.
    return TrainedModel(Bundle.load(folder), folder=folder if folder == Path(source) else None, device=device)


class TrainedModel:
    """A trained model: architecture, weights, bands, normalisation, threshold and provenance.

    Use :func:`zoo.load` or :func:`zoo.train` to get one.

    Args:
        bundle: the model and its description.
        folder: folder of the bundle; ``None`` if it is not saved or not the user's own.
        device: ``auto``, ``cpu``, ``cuda``, ``cuda:1`` or ``mps``.

    Attributes:
        bundle: the model and its description.
        folder: folder of the bundle; ``None`` if it is not saved or not the user's own.
        device: device of predictions.
        result: result of the training run, for a model that :func:`zoo.train` returned; else ``None``.
    """

    def __init__(self, bundle: Bundle, *, folder: Path | None = None, device: str = "auto") -> None:
        from zoo.training.compute import resolve_device

        self.bundle = bundle
        self.folder = folder
        self.device: torch.device = resolve_device(device)
        self.result: TrialResult | None = None
        self._predictor: Predictor | None = None
        self._forward: TileForward | None = None

    @property
    def bands(self) -> tuple[Band, ...]:
        """Bands of the input in order, with name, unit and valid range."""
        return self.bundle.bands

    @property
    def threshold(self) -> float:
        """Landslide probability at or above which a pixel counts as landslide, chosen on the validation split."""
        return self.bundle.threshold

    def quality(self, *, adapted: bool = False) -> str:
        """Return the quality of the model in one line: Dice with its interval, precision, recall, data.

        Args:
            adapted: whether the model is adapted to the region, as ``zoo map --adapt`` does.
        """
        from zoo.evaluation.quality import quality_line

        adapted = adapted or self.adaptation is not None
        return quality_line(self.bundle.quality(adapted=adapted), adapted=adapted, label=self.bundle.label)

    def quality_warnings(self) -> tuple[str, ...]:
        """Return why the model is too poor to rely on, in sentences; empty if its quality is good or unknown."""
        from zoo.evaluation.quality import quality_warnings

        return quality_warnings(self.bundle.quality())

    @property
    def predictor(self) -> Predictor:
        """The ``nn.Module`` that maps images in units to logits, in eval mode on :attr:`device`."""
        if self._predictor is None:
            self._predictor = self.bundle.predictor().to(self.device)
        return self._predictor

    def predict(
        self,
        image: Any,
        *,
        bands: Sequence[str] | None = None,
        any_pixel_size: bool = False,
        tile: int = 512,
        overlap: int = 64,
    ) -> Any:
        """Return the landslide probability of an image of any size.

        Large images are computed in overlapping tiles, as in :meth:`map`. Apart from the limit of the model's receptive
        field, the result does not depend on the image size.

        Args:
            image: ``(C, H, W)`` or ``(B, C, H, W)`` in the units of :attr:`bands`, with NaN or the band's nodata value
                where data are missing: a numpy array, a torch tensor or an :class:`xarray.DataArray`. Or the path of a
                raster, whose bands are matched by name and unit, or of a ``.npy`` file. For a DataArray, the names in
                the band coordinate, the direction of the coordinates y and x, and the attributes ``_FillValue``,
                ``scale_factor`` and ``add_offset`` are used.
            bands: names of the bands of a raster in order, if the file does not name them.
            any_pixel_size: accept a raster whose pixel size differs from that of the training data.
            tile: side of a tile in pixels, a multiple of 32.
            overlap: pixels that neighbouring tiles share, a multiple of 32 up to half a tile.

        Returns:
            Landslide probability in [0, 1], float32 ``(H, W)`` or ``(B, H, W)``; NaN where a band is missing, infinite
            or more than 10,000 standard deviations from its training mean. A DataArray input gives a DataArray with its
            coordinates; other inputs give a numpy array.

        Raises:
            DataError: if the shape or the bands do not fit the model, or the file cannot be read.

        Examples:
            >>> import numpy as np
            >>> model = zoo.load("runs/unet")  # doctest: +SKIP
            >>> model.predict(np.zeros((7, 300, 200), np.float32)).shape  # doctest: +SKIP
            (300, 200)
        """
        from zoo.mapping.tiling import check_tiling

        check_tiling(tile, overlap)
        if isinstance(image, (str, os.PathLike)):
            return self._predict_file(os.fspath(image), bands, any_pixel_size, tile, overlap)
        if type(image).__module__.split(".")[0] == "xarray":
            wanted = [band.name for band in self.bands]
            return predict_labelled(
                image, wanted, self._expected, lambda values: self._predict_array(values, tile, overlap)
            )
        return self._predict_array(read_array(image), tile, overlap)

    def _predict_file(
        self, path: str, names: Sequence[str] | None, any_pixel_size: bool, tile: int, overlap: int
    ) -> NDArray[np.float32]:
        from zoo.datasets.base import DataWarning
        from zoo.datasets.npy import read_npy
        from zoo.mapping.scene import open_scene
        from zoo.mapping.tiling import PixelRange

        if path.endswith(".npy"):
            return self._predict_array(read_array(read_npy(path)), tile, overlap)
        with open_scene(path, self.bundle, names=names, any_pixel_size=any_pixel_size) as scene:
            rows, columns = scene.shape
            image = scene.read(PixelRange(0, rows), PixelRange(0, columns))
            for text in scene.notes:
                warnings.warn(f"{path}: {text}", DataWarning, stacklevel=3)
        return self._predict_array(image, tile, overlap)

    def _predict_array(self, image: NDArray[np.float32], tile: int, overlap: int) -> NDArray[np.float32]:
        import torch

        from zoo.mapping.inference import TileForward, predict_image
        from zoo.mapping.scene import hide_nodata
        from zoo.training.predictor import PlausibleRange

        if image.ndim not in (3, 4) or image.shape[-3] != len(self.bands) or 0 in image.shape:
            raise DataError(f"an image of shape {image.shape} does not fit the model", hint=self._expected)
        if self._forward is None:
            self._forward = TileForward(self.predictor, self.device)
        plausible = PlausibleRange.of(self.predictor)
        threads = torch.get_num_threads() if self.device.type == "cpu" else 1
        found = np.empty((*image.shape[:-3], *image.shape[-2:]), dtype=np.float32)
        for place in np.ndindex(image.shape[:-3]):
            one = np.ascontiguousarray(image[place]).copy()
            hide_nodata(one, self.bands)
            found[place] = predict_image(self._forward, one, plausible, tile=tile, overlap=overlap, threads=threads)
        return found

    @property
    def _expected(self) -> str:
        listed = ", ".join(f"{band.name} [{band.unit}]" for band in self.bands)
        return f"The model takes (C, H, W) or (B, C, H, W) with {len(self.bands)} bands: {listed}"

    # long: one parameter for each option of `zoo map`
    def map(
        self,
        scene: PathLike | Sequence[PathLike],
        out: PathLike,
        *,
        threshold: float | None = None,
        classes: Sequence[str] | None = None,
        breaks: Sequence[float] | None = None,
        classes_out: PathLike | None = None,
        ensemble: Sequence[PathLike | TrainedModel] = (),
        spread: PathLike | None = None,
        calibrated: bool = False,
        sets: PathLike | None = None,
        unlike: PathLike | None = None,
        polygons: PathLike | None = None,
        min_area: float = 0.0,
        picture: PathLike | None = None,
        title: str = "",
        mask: PathLike | None = None,
        bands: Sequence[str] | None = None,
        adapt: bool = False,
        scales: Sequence[float] | Literal["auto"] | None = None,
        tile: int = 512,
        overlap: int = 64,
        tta: bool = False,
        precision: Literal["fp32", "bf16", "auto"] = "fp32",
        dtype: Literal["uint8", "float32"] = "uint8",
        compress: str = "deflate",
        threads: int | None = None,
        batch: int = 4,
        any_pixel_size: bool = False,
        resample: bool = False,
        cloud_mask: PathLike | None = None,
        mask_clouds: bool = False,
        cluster: str | None = None,
        cluster_gpus: bool = False,
        overwrite: bool = False,
        progress: StageCallback | None = None,
        notify: Callable[[str], None] | None = None,
        warn: Callable[[str], None] | None = None,
    ) -> MapReport:
        """Map the landslide probability of a scene of any size as a cloud-optimised GeoTIFF.

        After an interruption, the same call resumes from the last finished block. ``out`` appears when it is complete.

        Args:
            scene: a raster, a VRT, or several rasters on one pixel grid: adjacent tiles, or different bands. Bands are
                matched by name and unit.
            out: the map, a ``.tif`` file or another path that GDAL can write to.
            threshold: probability at or above which a pixel counts as landslide; ``None`` for the model's.
            classes: names of classes from the lowest to the highest; they are written to a file next to ``out``.
            breaks: lower probability bound of each class except the first; ``None`` derives them from the threshold.
            classes_out: file of the classes; ``None`` for ``OUT-classes.tif``.
            ensemble: further models, such as other seeds of the same trial, with the same bands, classes and pixel
                size. The map is the mean of all models, and its threshold the mean of theirs.
            spread: file of the standard deviation of all predictions: of the ensemble, with ``tta`` of the eight flips
                and rotations, or of both. ``None`` writes ``OUT-spread.tif`` for an ensemble, and no file otherwise.
            calibrated: apply the temperature that was fitted on the validation split. The default threshold is rescaled
                too, so that a single model classifies the same pixels as landslide; a given ``threshold`` is not.
            unlike: file of the distance of each tile from the training data, in standard deviations
                (:class:`zoo.training.running_statistics.ImageDistances`). The report says how many tiles are farther
                away than the patches of the validation split.
            sets: file of the conformal prediction sets: 1 background, 2 landslide, 3 both, 4 neither, 0 nodata. They
                need ``dtype="float32"``.
            polygons: GeoPackage (``.gpkg``) or GeoParquet (``.parquet``) file of the landslides.
            min_area: area in m2 below which a polygon is left out.
            picture: picture of the map (``.png``, ``.pdf``, ``.svg``).
            title: title of the picture.
            mask: vector file of the area to map; nodata elsewhere.
            bands: names of the scene's bands in order, if its files do not name them.
            adapt: re-estimate the normalisation statistics on the scene first.
            scales: with ``adapt``, magnifications applied to every tile, or ``"auto"``.
            tile: side of a tile in pixels, a multiple of 32.
            overlap: pixels that neighbouring tiles share, a multiple of 32 up to half a tile.
            tta: average over the eight flips and rotations of each tile; eight times slower.
            precision: precision of the model's arithmetic.
            dtype: ``uint8`` in steps of 0.004, or ``float32``.
            compress: ``deflate``, ``zstd``, ``lzw`` or ``none``.
            threads: number of tiles computed at the same time; ``None`` for torch's number of threads.
            batch: number of tiles that wait for a free thread.
            any_pixel_size: map a scene whose pixel size differs from that of the training data.
            resample: resample such a scene; the map then has the pixel size of the training data.
            cloud_mask: Sentinel-2 scene classification (SCL), or a raster of 0 (clear) and 1 (hidden); hidden pixels
                become nodata in the map.
            mask_clouds: leave bright white areas (clouds or snow) out of the map.
            cluster: address of a Ray cluster; ``None`` for this machine.
            cluster_gpus: give each worker of the cluster a GPU.
            overwrite: replace existing files.
            progress: called with the stage, the number of items done and the total.
            notify: called with sentences about choices that were made.
            warn: called once with each warning of the report, as soon as it is known.

        Returns:
            The files, the number of pixels at or above the threshold, and the warnings.

        Raises:
            ZooError: if the scene does not fit the model, an output exists, or no pixel can be mapped.

        Examples:
            >>> report = model.map("scene.tif", "prob.tif", polygons="slides.gpkg")  # doctest: +SKIP
            >>> print("\\n".join(report.lines()))  # doctest: +SKIP
        """
        import torch

        from zoo.mapping.inference import MapOptions
        from zoo.mapping.pipeline import MapProducts, MapRequest, map_bundle

        if scales is not None and not adapt:
            raise ConfigError("--scales needs adapted statistics", where="--scales", hint="Add --adapt")
        if classes is None and (breaks is not None or classes_out is not None):
            raise ConfigError("--breaks and --classes-out need --classes", hint="Such as --classes low,medium,high")
        if polygons is None and min_area:
            raise ConfigError("--min-area needs --polygons", hint="Name the file: --polygons slides.gpkg")
        if picture is None and title:
            raise ConfigError("--title needs --picture", hint="Name the file: --picture map.png")
        paths = [scene] if isinstance(scene, (str, os.PathLike)) else list(scene)
        device = torch.device("cuda") if cluster is not None and cluster_gpus else self.device
        request = MapRequest(
            scene=tuple(os.fspath(path) for path in paths),
            out=os.fspath(out),
            options=MapOptions(tile, overlap, tta, dtype, compress, threads, batch, device),
            threshold=threshold,
            classes=None if classes is None else (tuple(classes), None if breaks is None else tuple(breaks)),
            classes_out=None if classes_out is None else os.fspath(classes_out),
            spread_out=None if spread is None else os.fspath(spread),
            sets_out=None if sets is None else os.fspath(sets),
            unlike_out=None if unlike is None else os.fspath(unlike),
            calibrated=calibrated,
            mask=None if mask is None else Path(mask),
            names=None if bands is None else tuple(bands),
            precision=precision,
            scales=(scales or (1.0,)) if adapt else None,
            products=MapProducts(_local(polygons), min_area, _local(picture), title),
            any_pixel_size=any_pixel_size,
            resample=resample,
            cloud_mask=None if cloud_mask is None else os.fspath(cloud_mask),
            mask_clouds=mask_clouds,
            cluster=cluster,
            overwrite=overwrite,
        )
        others = [
            member if isinstance(member, TrainedModel) else load(member, device=str(self.device)) for member in ensemble
        ]
        bundles = [one.bundle for one in others]
        return map_bundle(self.bundle, request, others=bundles, progress=progress, notify=notify, warn=warn)

    def evaluate(
        self,
        data: Data | None = None,
        *,
        split: str = "test",
        threshold: float | None = None,
        adapted: bool = False,
        scales: Sequence[float] | Literal["auto"] = (1.0,),
        tta: bool = False,
        record: bool = False,
        progress: StageCallback | None = None,
        data_options: Mapping[str, Any] | None = None,
    ) -> SplitEvaluation:
        """Evaluate the model on a split that has masks.

        Args:
            data: name of a registered data set, or folder of images and masks; ``None`` for the model's own data.
            split: ``train``, ``val`` or ``test``.
            threshold: probability at or above which a pixel counts as landslide; ``None`` for the model's.
            adapted: adapt the model to the images of each scene first, without labels, as ``zoo map --adapt`` does; a
                split with more than 20 scenes is used as a whole. The model itself is unchanged.
            scales: with ``adapted``, magnifications applied to every image, or ``"auto"`` to choose one.
            tta: average the probability over the eight flips and rotations of each image.
            record: store the figures in the bundle, replacing earlier ones of the same split, and save it if the model
                has a folder. Maps and the model card quote them.
            progress: called with the stage, the number of patches done and the total.
            data_options: options of the data set, such as ``{"group_column": "scene"}``.

        Returns:
            The figures, and whether they come from the patches of the model's own training run.

        Raises:
            DataError: if the data are missing, or their bands are not those of the model.
            ConfigError: if the model does not record its data and none are given; if ``scales`` is given without
                ``adapted``; if figures of magnified or rotated images are to be recorded.
            ZooError: if the figures are to be recorded and the folder cannot be written to.

        Examples:
            >>> model.evaluate()["dice"]  # doctest: +SKIP
            0.712
        """
        from zoo.api.evaluation import evaluate_split

        source = self._source(data, data_options)
        return evaluate_split(
            self,
            source,
            split,
            threshold=threshold,
            adapted=adapted,
            scales=scales,
            tta=tta,
            record=record,
            progress=progress,
        )[0]

    def _source(self, data: Data | None, data_options: Mapping[str, Any] | None) -> DataSource:
        if data is not None:
            return DataSource.of(data, data_options)
        known = self.bundle.data.source
        if known is None:
            raise ConfigError(
                "the bundle does not record which data it was trained on",
                where=self.folder,
                hint="Name the data: --data FOLDER",
            )
        provider = self.bundle.data.provider
        if provider is not None and known.name not in list_datasets():
            error = UnknownNameError("data set", known.name, list_datasets(), where=self.folder)
            error.hint = provider.advice("The bundle was trained on data of", "register the data set again")
            raise error
        return DataSource.of(known, data_options)

    def adapt(
        self,
        data: Data,
        *,
        split: Literal["all", "train", "val", "test"] = "all",
        groups: Sequence[str] | None = None,
        share: float | None = None,
        statistics: Literal["layers", "bands", "both"] = "layers",
        scales: Sequence[float] | Literal["auto"] = (1.0,),
        patches: int | None = None,
        seed: int = 0,
        progress: StageCallback | None = None,
        notify: Callable[[str], None] | None = None,
        data_options: Mapping[str, Any] | None = None,
    ) -> TrainedModel:
        """Re-estimate the normalisation statistics on unlabelled patches of another region.

        The weights do not change, and no labels are read. The threshold moves towards 0.5 by the mean share of the
        region. docs/how_to/adapt.md explains when adapting helps.

        Args:
            data: folder of images, or name of a registered data set.
            split: patches to use; ``all`` takes every image of a folder and needs no masks.
            groups: scenes or events to use; ``None`` for all.
            share: weight of the target in the statistics, in [0, 1]; ``None`` chooses one per layer by how much its
                shift exceeds chance.
            statistics: statistics of the ``layers`` (batch norm), of the ``bands``, or ``both``.
            scales: magnifications applied to every image, or ``"auto"`` to choose one.
            patches: maximum number of patches in memory; if there are more, a random sample is used. ``None`` for 2
                million pixels.
            seed: seed of that sample.
            progress: called with the stage, the number of items done and the total.
            notify: called with reasons why the result may be unreliable.
            data_options: options of the data set.

        Returns:
            A new model; this one is unchanged. Its ``bundle.adaptation`` records what was done.

        Raises:
            ZooError: if the data are missing or have other bands, or the model has no statistics to adapt.

        Examples:
            >>> adapted = model.adapt("new_region/")  # doctest: +SKIP
            >>> adapted.save("runs/adapted")  # doctest: +SKIP
        """
        from zoo.training.adaptation import MAX_PIXELS, adapt
        from zoo.training.adaptation_data import open_target

        source = self._source(data, data_options)
        report = progress or (lambda stage, done, total: None)
        target = open_target(
            self.bundle, source, split, groups, lambda done, total: report("reading the target", done, total)
        )
        for text in target.warnings if notify is not None else ():
            assert notify is not None
            notify(text)
        bundle = adapt(
            self.bundle,
            target.batches(),
            share=share,
            which=statistics,
            scales=scales,
            device=self.device,
            pixels=MAX_PIXELS if patches is None else patches * target.read(0)[0].size,
            seed=seed,
            target=target.record,
            progress=lambda done, total: report("adapting", done, total),
        )
        return TrainedModel(bundle, device=str(self.device))

    @property
    def adaptation(self) -> Adaptation | None:
        """How the model was adapted to a region; ``None`` if it was not."""
        return self.bundle.adaptation

    def explain(
        self,
        scene: PathLike | Sequence[PathLike],
        *,
        window: tuple[int, int, int, int] | None = None,
        at: tuple[float, float] | None = None,
        size: int = 128,
        context: int = 32,
        truth: PathLike | None = None,
        together: Sequence[Sequence[str]] = (),
        cells: int = 12,
        bands: Sequence[str] | None = None,
        threshold: float | None = None,
        picture: PathLike | None = None,
        record: PathLike | None = None,
        overwrite: bool = False,
        progress: ProgressCallback | None = None,
    ) -> SceneExplanation:
        """Measure which channels and which parts of a window of a scene the prediction depends on.

        Each channel and each square of the window is replaced in turn by its training mean, and the change in the
        prediction is measured. docs/how_to/explain.md explains how to read the result.

        Args:
            scene: see :meth:`map`.
            window: (column, row, width, height) in pixels. Give either ``window`` or ``at``.
            at: (x, y) in the scene's coordinates.
            size: side of the window around ``at`` in pixels.
            context: number of pixels of context around the window.
            truth: reference landslides, a vector file or a mask.
            together: groups of channels that are replaced together.
            cells: number of squares along each side of the window; they are replaced one by one.
            bands: names of the scene's bands in order, if its files do not name them.
            threshold: probability at or above which a pixel counts as landslide; ``None`` for the model's.
            picture: draw the explanation into this file (``.png``, ``.pdf``, ``.svg``).
            record: write all figures to this JSON file.
            overwrite: replace existing files.
            progress: called with the number of predictions done and the total.

        Returns:
            The explanation; ``save(path)`` draws it, ``sentences()`` states it in words.

        Raises:
            ZooError: if the scene does not fit the model, the window is outside it, too small or without data, or a
                file cannot be written.

        Examples:
            >>> found = model.explain("scene.tif", window=(512, 1024, 128, 128), picture="why.png")  # doctest: +SKIP
            >>> found.sentences()  # doctest: +SKIP
        """
        from zoo.mapping.explanation import explain_scene

        paths = [scene] if isinstance(scene, (str, os.PathLike)) else list(scene)
        inputs = [Path(path) for path in (*paths, truth) if path is not None]
        _check_explanation_files(picture, record, inputs, overwrite=overwrite)
        label = " ".join(filter(None, ("" if self.folder is None else str(self.folder), self.bundle.label)))
        found = explain_scene(
            self.bundle,
            self.predictor,
            [os.fspath(path) for path in paths],
            window=window,
            at=at,
            size=size,
            context=context,
            truth=None if truth is None else Path(truth),
            together=tuple(tuple(group) for group in together),
            cells=cells,
            names=None if bands is None else tuple(bands),
            threshold=threshold,
            label=label,
            progress=progress,
        )
        if picture is not None:
            found.save(Path(picture))
        if record is not None:
            found.save_numbers(Path(record))
        return found

    def export(
        self,
        out: PathLike,
        *,
        to: Literal["onnx", "openvino", "torch-export"] = "onnx",
        precision: Literal["fp32", "fp16", "bf16", "int8"] = "fp32",
        data: Data | None = None,
        overwrite: bool = False,
        notify: Callable[[str], None] | None = None,
        data_options: Mapping[str, Any] | None = None,
    ) -> Exported:
        """Export the model to one file that takes images in the units of the bands, and check its outputs.

        Args:
            out: the file.
            to: format of the file.
            precision: precision of its arithmetic; a precision below ``fp32`` is checked on real patches.
            data: patches to check it on; ``None`` for the model's own data. For ``fp32``, random images are enough.
            overwrite: replace an existing file.
            notify: called with messages while the export runs.
            data_options: options of the data set.

        Raises:
            ZooError: if the model cannot be exported, or the outputs of the file differ.

        Examples:
            >>> model.export("landslides.onnx")  # doctest: +SKIP
        """
        from zoo.api.export import export

        return export(
            self.bundle,
            out,
            to=to,
            precision=precision,
            overwrite=overwrite,
            data=None if data is None else self._source(data, data_options),
            data_options=data_options,
            note=notify or _ignore_message,
            warn=notify or _ignore_message,
        )

    def save(self, folder: PathLike, *, half: bool = False, overwrite: bool = False) -> Path:
        """Save the model as a bundle, which :func:`zoo.load` and every command read.

        Args:
            folder: folder of the bundle.
            half: store the weights as float16, at half the size (:meth:`zoo.training.bundle.Bundle.save`).
            overwrite: replace an existing bundle.

        Returns:
            The folder.

        Raises:
            ConfigError: if the folder holds a bundle.
            ZooError: if the folder cannot be written to.
        """
        target = Path(folder)
        check_free(target, overwrite=overwrite)
        digest = self.bundle.save(target, half=half)
        self.bundle = replace(self.bundle, weights_sha256=digest)
        self.folder = target
        return target

    @property
    def card(self) -> str:
        """The model card in Markdown: the model's inputs, how it was trained, and how well it performs."""
        from zoo.weights.card import render_card

        return render_card(self.bundle)

    def write_card(
        self,
        folder: PathLike | None = None,
        *,
        data: Data | None = None,
        split: str = "test",
        notes: PathLike | None = None,
        progress: StageCallback | None = None,
        data_options: Mapping[str, Any] | None = None,
    ) -> Path:
        """Write the model card into the folder of the bundle: ``README.md``, which the Hugging Face hub shows, and its
        pictures.

        Args:
            folder: folder of the bundle; ``None`` for :attr:`folder`.
            data: patches with masks. Their figures are recorded, and pictures show the worst and the typical ones.
                ``None`` writes only what the bundle records, and keeps existing pictures.
            split: split of these patches.
            notes: TOML file with your own notes; :func:`zoo.api.weights.with_notes` lists its fields.
            progress: called with the stage, the number of patches done and the total.
            data_options: options of the data set.

        Returns:
            The path of ``README.md``.

        Raises:
            ConfigError: if the model is not saved and no folder is given, or the notes have an unknown field.
            ResultError: if the folder holds another bundle.
            ZooError: if the data are missing or have other bands, or a file cannot be written.

        Examples:
            >>> model.write_card(data="patches/", notes="notes.toml")  # doctest: +SKIP
        """
        from zoo.api.evaluation import evaluate_split
        from zoo.api.weights import with_notes, write_card

        place = self.folder if folder is None else Path(folder)
        if place is None:
            raise ConfigError("the model is not saved", hint="Save it first: model.save(FOLDER)")
        if data is None and data_options:
            raise ConfigError("data options need the data", hint="Name the patches: --data FOLDER")
        if notes is not None:
            self.bundle = with_notes(self.bundle, notes)
        measured = None
        if data is not None:
            source = self._source(data, data_options)
            measured = evaluate_split(self, source, split, record=True, progress=progress)[1:]
        return write_card(self, place, measured)

    def _facts(self) -> dict[str, str]:
        bundle = self.bundle
        options = ", ".join(f"{name}={value}" for name, value in bundle.options.items())
        facts = {
            "architecture": bundle.model + (f" ({options})" if options else ""),
            "bands": ", ".join(f"{band.name} [{band.unit}]" for band in bundle.bands),
            "pixel size": "unknown" if bundle.pixel_size is None else f"{bundle.pixel_size:g} m",
            "classes": ", ".join(bundle.class_names),
            "training data": self._data_label(),
            "recipe": "unknown" if bundle.recipe is None else bundle.recipe.name,
            "seed": "unknown" if bundle.seed is None else str(bundle.seed),
            "threshold": f"{bundle.threshold:.6g} (chosen on the validation split)",
        }
        if bundle.adaptation is not None:
            target = bundle.adaptation.target
            place = target.options.get("root") or target.name or target.scene or "an unnamed region"
            facts["adapted to"] = f"{place}, {target.used} images, share {bundle.adaptation.share:.2f}"
        quality = bundle.quality()
        if quality is None:
            facts["quality"] = "not measured"
        else:
            facts[quality.heading] = f"{quality.figures.removeprefix(quality.heading).strip()}; {quality.place}"
        if bundle.landslide_share is not None:
            facts["landslide share"] = f"{bundle.landslide_share:.2%} of the training masks"
        if bundle.data.licence:
            facts["licence of the data"] = bundle.data.licence
        if bundle.provider is not None:
            facts["provided by"] = f"{bundle.provider.distribution} {bundle.provider.version}".strip()
        if bundle.weights_sha256:
            facts["weights sha256"] = bundle.weights_sha256
        return facts

    def _data_label(self) -> str:
        source = self.bundle.data.source
        return self.bundle.data.name or "unknown" if source is None else source.label

    def __repr__(self) -> str:
        bundle = self.bundle
        parts = [bundle.model, f"{len(bundle.bands)} bands", f"trained on {self._data_label()}"]
        if bundle.adaptation is not None:
            parts.append("adapted")
        parts += [bundle.label] if bundle.label else []
        quality = bundle.quality()
        parts.append("quality not measured" if quality is None else quality.figures)
        parts.append(f"threshold {bundle.threshold:.6g}")
        return f"TrainedModel({', '.join(parts)})"

    def _repr_html_(self) -> str:
        rows = "".join(
            f"<tr><th style='text-align:left'>{html.escape(name)}</th>"
            f"<td style='text-align:left'>{html.escape(value)}</td></tr>"
            for name, value in self._facts().items()
        )
        return f"<table><caption>TrainedModel: {html.escape(self.bundle.model)}</caption>{rows}</table>"


def _warn(text: str) -> None:
    warnings.warn(text, UserWarning, stacklevel=3)


def _ignore_message(text: str) -> None:
    """Ignore a message."""


def _local(path: PathLike | None) -> Path | None:
    from zoo.rasters.reading import is_remote

    if path is not None and is_remote(os.fspath(path)):
        raise ConfigError("polygons and pictures are written to this machine", where=path, hint="Copy it afterwards")
    return None if path is None else Path(path)


def check_free(folder: Path, *, overwrite: bool) -> None:
    """Check that a folder holds no bundle, or that it may be replaced.

    Raises:
        ConfigError: if it holds one.
    """
    if (folder / "bundle.json").exists() and not overwrite:
        raise ConfigError(
            "already holds a bundle", where=folder, hint="Name another folder, or replace it with --overwrite"
        )


def _check_explanation_files(
    picture: PathLike | None, record: PathLike | None, inputs: Sequence[Path], *, overwrite: bool
) -> None:
    from zoo.files import check_outputs
    from zoo.rasters.map_frame import check_picture

    check_outputs((picture, record), inputs, overwrite=overwrite)
    if picture is not None:
        check_picture(Path(picture))
