"""``zoo map``: the landslide probability of every pixel of a scene."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from contextlib import ExitStack, redirect_stdout
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from zoo.cli.console import note, warn
from zoo.cli.console import out as standard_output
from zoo.cli.map_products import check_products, make_products, product_options
from zoo.cli.progress import progress, stoppable
from zoo.cli.scales import Scales, parse_scales
from zoo.errors import ConfigError, ResultError

if TYPE_CHECKING:
    import torch

    from zoo.mapping import MapOptions, MapReport, ProbabilityClasses, Scene
    from zoo.mapping.inference import MapPrecision
    from zoo.rasters.vectors import Area
    from zoo.training.bundle import Bundle


@click.command("map", short_help="Map the landslide probability of a scene of any size.")
@click.argument("bundle", type=click.Path(path_type=Path))
@click.argument("scene", nargs=-1, required=True, metavar="SCENE...")
@click.option("--out", required=True, help="The probability, a GeoTIFF: a file, or an address that GDAL can write to.")
@click.option("--classes", metavar="NAMES", help="Write classes too, such as low,medium,high, beside --out.")
@click.option("--breaks", metavar="P,P,...", help="Where each class but the first begins; else by the threshold.")
@click.option("--classes-out", help="Name of the classes; else OUT-classes.tif.")
@product_options
@click.option("--mask", type=click.Path(path_type=Path), help="Polygons: map inside of them, nodata elsewhere.")
@click.option("--bands", metavar="NAMES", help="Names of the scene's bands in order, where its files do not say them.")
@click.option("--threshold", type=click.FloatRange(0, 1), help="Instead of the bundle's.")
@click.option("--tile", type=int, default=512, show_default=True, help="Pixels along the side of a tile.")
@click.option("--overlap", type=int, default=64, show_default=True, help="Pixels that neighbouring tiles share.")
@click.option("--tta", is_flag=True, help="Average over eight flips and rotations of each tile: eight times slower.")
@click.option(
    "--precision", type=click.Choice(["fp32", "bf16", "auto"]), default="fp32", show_default=True,
    help="Of the model's arithmetic; bf16 is taken if masks stay the same but for 500 pixels in a million.",
)  # fmt: skip
@click.option("--adapt", is_flag=True, help="Re-estimate the model's normalisation statistics on the scene first.")
@click.option(
    "--scales", metavar="auto|X,X,...",
    help="With --adapt: magnifications at which every tile is seen, such as 1,1.5,2; auto chooses one.",
)  # fmt: skip
@click.option(
    "--dtype", type=click.Choice(["uint8", "float32"]), default="uint8", show_default=True,
    help="Probability in steps of 0.004, or in full.",
)  # fmt: skip
@click.option(
    "--compress", type=click.Choice(["deflate", "zstd", "lzw", "none"]), default="deflate", show_default=True,
    help="Of the GeoTIFFs.",
)  # fmt: skip
@click.option(
    "--threads", type=click.IntRange(1), help="Tiles computed at the same time; else one for each of torch's threads."
)
@click.option("--batch", type=click.IntRange(1), default=4, show_default=True, help="Tiles ready for a free thread.")
@click.option("--device", default="auto", show_default=True, help="auto, cpu, cuda, cuda:1 or mps.")
@click.option("--ray", "address", metavar="ADDRESS", help="Spread the work over this Ray cluster; auto for ours.")
@click.option("--overwrite", is_flag=True, help="Replace outputs that are there.")
def map(bundle: Path, scene: tuple[str, ...], out: str, address: str | None, **given: Any) -> None:
    """Map SCENE with BUNDLE, a folder that zoo train or zoo bench wrote.

    \b
    zoo map run scene.tif --out prob.tif
    zoo map run scene.tif --out prob.tif --classes low,medium,high --mask county.gpkg
    zoo map run scene.tif --out prob.tif --polygons slides.gpkg --least-area 500 --picture map.png
    zoo map run tiles/*.tif --out prob.tif --dtype float32 --tta

    SCENE is a raster of any size, a VRT, or several rasters of one pixel grid: side by side, or of different bands.
    Bands are found by name and unit. The map appears when it is whole; after Ctrl-C or a crash the same command goes on
    from the last finished block. docs/how_to/map.md says what is in it. Exit code 0: done; 2: bad input.
    """
    scales = _scales(given)
    loaded = _load(bundle)

    import torch

    from zoo.deploy import raise_allocator_thresholds
    from zoo.mapping import MapOptions, Scene
    from zoo.mapping.journal import half_published
    from zoo.rasters.cog import check_output
    from zoo.rasters.reading import check_remote_output, gdal_threads, is_remote, upload
    from zoo.rasters.vectors import Area
    from zoo.training.compute import resolve_device

    # On a cluster it is the workers that need the device, not this machine.
    remote_gpu = address is not None and given["device"].startswith("cuda")
    device = torch.device("cuda") if remote_gpu else resolve_device(given["device"])
    options = MapOptions(
        **{name: given[name] for name in ("tile", "overlap", "tta", "dtype", "compress", "threads", "batch")},
        device=device,
    )
    threshold = loaded.threshold if given["threshold"] is None else given["threshold"]
    classes = _classes(given, threshold)
    outputs = _outputs(out, given, classes is not None)
    inputs = [Path(one) for one in scene]
    for local, name in outputs.items():
        check_output(local, inputs, overwrite=given["overwrite"] or half_published(next(iter(outputs))))
        if is_remote(name):
            check_remote_output(name, overwrite=given["overwrite"])
    check_products(given, inputs, outputs)
    names = None if given["bands"] is None else tuple(one.strip() for one in given["bands"].split(","))
    raise_allocator_thresholds()
    with ExitStack() as exits:
        exits.enter_context(stoppable())
        exits.enter_context(gdal_threads(scene[0]))
        opened = exits.enter_context(Scene(scene, loaded.bands, names=names))
        mask = None if given["mask"] is None else Area(given["mask"], opened.mosaic)
        command = _Command(loaded, opened, options, threshold, mask, names, address)
        try:
            report = command.run(
                list(outputs),
                precision=given["precision"],
                scales=scales,
                classes=classes,
                overwrite=given["overwrite"],
            )
        except KeyboardInterrupt:
            warn("stopped; the same command goes on from the last finished block")
            raise
        products = make_products(report.out, opened, threshold, classes, given)
        for local, name in outputs.items():
            if is_remote(name):
                upload(local, name)
    _print(report, threshold, list(outputs.values()))
    for line in products:
        standard_output().print(line, markup=False)


@dataclass(frozen=True)
class _Command:
    """What the parts of a map have in common."""

    bundle: Bundle
    scene: Scene
    options: MapOptions
    threshold: float
    mask: Area | None
    names: tuple[str, ...] | None
    address: str | None

    def run(
        self,
        outputs: Sequence[Path],
        *,
        precision: MapPrecision,
        scales: Scales | None,
        classes: ProbabilityClasses | None,
        overwrite: bool,
    ) -> MapReport:
        import torch

        from zoo.mapping import map_scene
        from zoo.mapping.inference import fastest
        from zoo.mapping.pipeline import predictor_digest
        from zoo.mapping.tiling import Plan

        device = self.options.device if self.address is None else torch.device("cpu")
        tags = {"MODEL": self.bundle.model, "WEIGHTS_SHA256": self.bundle.weights_sha256}
        bundle = self.bundle if scales is None else self._adapted(scales, device, tags)
        predictor = bundle.predictor().to(device)
        plan = Plan(self.scene.shape, self.options.tile, self.options.overlap)
        with progress("looking for the fastest form of the model"):
            fast, form, messages = fastest(predictor, self.scene, plan, precision, device, self.threshold)
        for text in messages:
            note(f"  {text}")
        tags |= {"PRECISION": precision, "FORM": form.name}
        runner = None
        if self.address is not None:
            from zoo.mapping.cluster import cluster_runner

            runner = cluster_runner(
                self.address, predictor, form, self.scene, self.options, mask=self.mask, names=self.names, told=note
            )
        # Ray prints what happens to its machines; standard output is for results.
        with progress("mapping") as show, redirect_stdout(sys.stderr):
            return map_scene(
                fast,
                self.scene,
                outputs[0],
                self.options,
                threshold=self.threshold,
                mask=self.mask,
                classes=classes,
                classes_out=outputs[1] if len(outputs) > 1 else None,
                tags=tags,
                identity={"predictor": predictor_digest(predictor)},
                runner=runner,
                overwrite=overwrite,
                progress=lambda what, done, total: show(done, total),
            )

    def _adapted(self, scales: Scales, device: torch.device, tags: dict[str, str]) -> Bundle:
        from zoo.mapping.pipeline import adapt_to_scene
        from zoo.training.predictor import ORIGINAL_SCALE

        with progress("adapting to the scene") as show:
            adapted = adapt_to_scene(self.bundle, self.scene, device, show, scales=scales)
        assert adapted.adaptation is not None
        share = adapted.adaptation.share
        note(f"  adapted to the scene: its share in the normalisation statistics is {share:g}")
        tags["ADAPTED_SHARE"] = f"{share:g}"
        if adapted.scales != ORIGINAL_SCALE:
            tags["SCALES"] = ",".join(f"{scale:g}" for scale in adapted.scales)
            note(f"  seen at these magnifications: {tags['SCALES']}")
        return adapted


def _load(bundle: Path) -> Bundle:
    """Read the bundle; say how to get one where there is none."""
    from zoo.registry import catalogue

    name = str(bundle)
    if not bundle.exists() and name in catalogue().models:
        raise ConfigError(
            f"{name!r} is an architecture, and a map takes trained weights",
            hint=f"Train them first: zoo train {name} --data PATCHES --out run; then: zoo map run SCENE --out FILE",
        )
    if not (bundle / "bundle.json").exists():
        problem = "there is no such folder" if not bundle.exists() else "holds no bundle"
        raise ResultError(
            problem, where=bundle, hint="A bundle is a folder that zoo train writes: zoo train MODEL --out FOLDER"
        )

    from zoo.training.bundle import Bundle

    return Bundle.load(bundle)


def _scales(given: dict[str, Any]) -> Scales | None:
    """The magnifications to adapt at; ``None`` where the bundle is taken as it is."""
    if given["scales"] is not None and not given["adapt"]:
        raise ConfigError(
            "statistics at other magnifications come from the scene", where="--scales", hint="Add --adapt"
        )
    return parse_scales(given["scales"] or "1") if given["adapt"] else None


def _classes(given: dict[str, Any], threshold: float) -> ProbabilityClasses | None:
    from zoo.mapping import ProbabilityClasses

    if given["classes"] is None:
        if given["breaks"] is not None or given["classes_out"] is not None:
            raise ConfigError("--breaks and --classes-out are for --classes", hint="Such as --classes low,medium,high")
        return None
    names = tuple(one.strip() for one in given["classes"].split(","))
    if given["breaks"] is None:
        return ProbabilityClasses.from_threshold(names, threshold)
    try:
        breaks = tuple(float(one) for one in given["breaks"].split(","))
    except ValueError:
        raise ConfigError(f"--breaks {given['breaks']} are no numbers", hint="Such as --breaks 0.2,0.5") from None
    return ProbabilityClasses(names, breaks)


def _outputs(out: str, given: dict[str, Any], with_classes: bool) -> dict[Path, str]:
    """Where each file is made, and where it belongs: what belongs to an address is made in the working folder."""
    from zoo.rasters.reading import file_label, is_remote

    stem, dot, suffix = out.rpartition(".")
    classes_out = given["classes_out"] or (f"{stem}-classes.{suffix}" if dot else f"{out}-classes")
    names = [out, *([classes_out] if with_classes else [])]
    places = [Path(file_label(name)) if is_remote(name) else Path(name) for name in names]
    if len({place.absolute() for place in places}) < len(places):
        raise ConfigError("two outputs have one name", where=out, hint="Name a file for each")
    return dict(zip(places, names, strict=True))


def _print(report: MapReport, threshold: float, files: Sequence[str]) -> None:
    def amount(pixels: int) -> str:
        area = report.area(pixels)
        share = pixels / report.mapped
        return f"{pixels:,} pixels ({share:.2%})" + ("" if area is None else f", {area:,.3f} km2")

    console = standard_output()
    rows, columns = report.shape
    console.print(f"{rows} x {columns} pixels, {report.missing:,} without data")
    console.print(f"landslide probability from {threshold:g}: {amount(report.above)}")
    for name, pixels in report.class_pixels.items():
        console.print(f"  {name}: {amount(pixels)}", markup=False)
    console.print(f"in {', '.join(files)}", markup=False)
    if report.resumed:
        note(f"{report.resumed} of {report.blocks} blocks were there from an earlier run")
