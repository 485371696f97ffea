"""Compare the terrain of the synthetic scenes with the elevation model of Kashmir.

    python benchmarks/terrain_realism.py [--scenes 20] [--pictures docs/images] [--json FILE]

Concavity is minus the slope of log gradient against log upslope area, over cells with 0.1 to 10 km2 of upslope area,
in bins of a quarter of a decade. A pit is a cell without a lower neighbour, except at the edge of the grid. Landslide
sizes are compared with the truncated inverse gamma distribution of Malamud et al. (2004) from which they are drawn:
the difference comes from placing them on the terrain.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any

import matplotlib as mpl
import numpy as np
from matplotlib.figure import Figure
from numpy.typing import NDArray
from scipy import ndimage, stats

from zoo.datasets.synthetic.land_cover import NIR, RED, SWIR
from zoo.datasets.synthetic.landslides import landslide_areas
from zoo.datasets.synthetic.scene import REGIONS, Scene, SceneConfig, generate_scene
from zoo.datasets.synthetic.terrain import make_terrain
from zoo.physics import horn_gradient, slope_degrees
from zoo.physics.flow import route

Array = NDArray[Any]
KASHMIR = Path(__file__).parents[1].parent / "shared" / "data" / "kashmir" / "AW3D30.tif"


def ring(shape: tuple[int, ...]) -> NDArray[np.bool_]:
    """Return True on the outer ring of a grid."""
    inside = np.zeros(shape, dtype=bool)
    inside[1:-1, 1:-1] = True
    return ~inside


def concavity(elevation: Array, area: Array, receiver: Array, distance: Array) -> float:
    """Return the concavity of the channels of a flow graph."""
    z = elevation.ravel()
    gradient = (z - z[receiver]) / distance
    inside = (~ring(elevation.shape)).ravel() & (area.ravel() > 1e5) & (area.ravel() < 1e7)
    bins = np.floor(np.log10(area.ravel()[inside]) * 4)
    x, y = [], []
    for value in np.unique(bins):
        members = bins == value
        if members.sum() >= 20:
            x.append((value + 0.5) / 4)
            y.append(np.log10(max(1e-6, float(gradient[inside][members].mean()))))
    return float(-np.polyfit(x, y, 1)[0]) if len(x) > 3 else float("nan")


def figures_of(elevation: Array, cell: float, area: Array | None = None) -> dict[str, float]:
    """Return slope percentiles (degrees), relief (m), pit share and concavity of an elevation grid."""
    flow = route(elevation, cell, ring(elevation.shape))
    if area is None:
        area = flow.accumulate(np.full(elevation.shape, cell * cell))
    slope = slope_degrees(elevation, cell)
    return {
        "slope 5 %": float(np.percentile(slope, 5)),
        "slope median": float(np.median(slope)),
        "slope 95 %": float(np.percentile(slope, 95)),
        "relief": float(np.ptp(elevation)),
        "pits %": 100.0 * flow.pits / elevation.size,
        "concavity": concavity(elevation, area, flow.receiver, flow.distance),
    }


def squares(size: int, side: int) -> list[slice]:
    """Return how many pieces of ``side`` fit into ``size``."""
    return [slice(k, k + side) for k in range(0, size - side + 1, side)]


def shade(elevation: Array, cell: float) -> Array:
    """Return a hillshade, light from the north-west at 45 degrees, [0, 1]."""
    south, east = horn_gradient(elevation, cell)
    light = (1.0 + east / np.sqrt(2.0) + south / np.sqrt(2.0)) / np.sqrt(2.0 * (1.0 + south**2 + east**2))
    return np.clip(light, 0.0, 1.0)


def false_colour(scene: Scene) -> Array:
    """Return (rows, columns, 3): short-wave infrared, near infrared, red, each stretched over its common range."""
    bands = [(SWIR, 0.04, 0.36), (NIR, 0.05, 0.50), (RED, 0.0, 0.20)]
    return np.stack([np.clip((scene.reflectance[b] - low) / (high - low), 0, 1) ** 0.8 for b, low, high in bands], -1)


def draw_relief(folder: Path, kashmir: tuple[Array, float] | None) -> None:
    """Write hillshades of five scenes beside Kashmir at the same scale."""
    figure = Figure(figsize=(10.2, 7.0), layout="constrained")
    axes = figure.subplots(2, 3).ravel()
    for ax, seed in zip(axes, (1, 3, 4, 5, 8), strict=False):
        config = SceneConfig()
        terrain = make_terrain(seed, 640, config.pixel_size, REGIONS[config.region].terrain)
        inner = terrain.elevation[64:-64, 64:-64]
        ax.imshow(shade(inner, 10.0), cmap="gray", vmin=0, vmax=1, extent=(0, 5.12, 0, 5.12))
        ax.set_title(f"synthetic {seed}: {np.ptp(inner):.0f} m of relief", fontsize=9)
    if kashmir is not None:
        dem, cell = kashmir
        side = round(5120 / cell)
        part = dem[300 : 300 + side, 200 : 200 + side]
        axes[-1].imshow(shade(part, cell), cmap="gray", vmin=0, vmax=1, extent=(0, 5.12, 0, 5.12))
        axes[-1].set_title(f"Kashmir (AW3D30, {cell:.0f} m): {np.ptp(part):.0f} m", fontsize=9)
    for ax in axes:
        ax.tick_params(labelsize=6)
    write_picture(figure, folder / "synthetic_relief.png")


def draw_scene(folder: Path, seed: int) -> None:
    """Write one scene as seen before and after the event, with the outlines of its landslides and the truth."""
    before, after = generate_scene(seed, SceneConfig(phase="pre")), generate_scene(seed)
    slides = after.landslide_id > 0
    edge = ndimage.binary_dilation(slides) & ~slides
    outlined = false_colour(after)
    outlined[edge] = (1.0, 1.0, 0.2)
    figure = Figure(figsize=(9.0, 9.2), layout="constrained")
    axes = figure.subplots(2, 2).ravel()
    hazard = np.clip(after.safety, 0.6, 2.0)
    for ax, picture, title in (
        (axes[0], false_colour(before), 'phase "pre": SWIR, NIR, red'),
        (axes[1], false_colour(after), 'phase "post"'),
        (axes[2], outlined, f"{after.rain.intensity:.1f} mm/h for {after.rain.duration:.1f} days: outlines"),
        (axes[3], hazard, "true factor of safety, 0.6 (dark) to 2"),
    ):
        ax.imshow(picture, cmap="magma", interpolation="antialiased")
        ax.set_title(title, fontsize=9)
        ax.set_axis_off()
    write_picture(figure, folder / "synthetic_scene.png")


def draw_channels(folder: Path, seed: int) -> None:
    """Write the seven channels and the mask of one patch-sized window."""
    scene = generate_scene(seed)
    busiest = max(
        ((y, x) for y in range(0, 512, 128) for x in range(0, 512, 128)),
        key=lambda at: int(scene.mask[at[0] : at[0] + 128, at[1] : at[1] + 128].sum()),
    )
    window = np.s_[busiest[0] : busiest[0] + 128, busiest[1] : busiest[1] + 128]
    figure = Figure(figsize=(9.6, 5.0), layout="constrained")
    axes = figure.subplots(2, 4).ravel()
    names = ("SMI", "NDBI", "NDVI", "NDWI", "slope", "DEM", "LSI")
    for ax, name, values in zip(axes, names, scene.image, strict=False):
        ax.imshow(values[window], cmap="viridis", interpolation="nearest")
        ax.set_title(name, fontsize=9)
    axes[-1].imshow(scene.mask[window], cmap="gray", interpolation="nearest")
    axes[-1].set_title("mask", fontsize=9)
    for ax in axes:
        ax.set_axis_off()
    write_picture(figure, folder / "synthetic_channels.png")


def write_picture(figure: Figure, path: Path) -> None:
    """Write a figure as a PNG of few colours, under 400 kB."""
    from PIL import Image

    figure.savefig(path, dpi=84)
    with Image.open(path) as picture:
        picture.convert("RGB").quantize(128, dither=Image.Dither.NONE).save(path, optimize=True)
    print(f"wrote {path} ({path.stat().st_size / 1000:.0f} kB)")


def landslide_sizes(scenes: list[Scene]) -> Array:
    """Return the areas (m2) of all landslides that the edge of the scene does not cut."""
    areas = []
    for scene in scenes:
        numbers = scene.landslide_id
        whole = np.setdiff1d(np.unique(numbers), np.unique(numbers[ring(numbers.shape)]))
        counts = np.bincount(numbers.ravel())
        areas.append(counts[whole[whole > 0]] * scene.config.pixel_size**2)
    return np.concatenate(areas)


def main() -> None:
    """Measure, print, draw."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--scenes", type=int, default=20)
    parser.add_argument("--region", default="subtropical", choices=tuple(REGIONS))
    parser.add_argument("--pictures", type=Path, default=None, help="folder to write the pictures of the docs to")
    parser.add_argument("--json", type=Path, default=None, help="write the figures here")
    options = parser.parse_args()
    mpl.use("agg")

    made = [generate_scene(seed, SceneConfig(region=options.region)) for seed in range(options.scenes)]
    ground = [figures_of(s.elevation.astype(float), s.config.pixel_size, s.area.astype(float)) for s in made]
    rows = {
        "synthetic, mean": {key: float(np.nanmean([g[key] for g in ground])) for key in ground[0]},
        "synthetic, least": {key: float(np.nanmin([g[key] for g in ground])) for key in ground[0]},
        "synthetic, most": {key: float(np.nanmax([g[key] for g in ground])) for key in ground[0]},
    }
    kashmir = None
    if KASHMIR.exists():
        import rasterio

        with rasterio.open(KASHMIR) as source:
            kashmir = (source.read(1).astype(float), abs(source.transform.a))
        rows["Kashmir, 28.6 m"] = figures_of(*kashmir)
        side = round(5120 / kashmir[1])
        parts = [
            float(np.ptp(kashmir[0][y, x]))
            for y in squares(kashmir[0].shape[0], side)
            for x in squares(kashmir[0].shape[1], side)
        ]
        rows["Kashmir, 28.6 m"]["relief"] = float(np.mean(parts))
    print(f"{'':<20}" + "".join(f"{key:>14}" for key in rows["synthetic, mean"]))
    for name, row in rows.items():
        print(f"{name:<20}" + "".join(f"{value:>14.2f}" for value in row.values()))

    sizes = landslide_sizes(made)
    drawn = landslide_areas(float(sizes.sum()) * 4, np.random.default_rng(0))
    drawn = np.round(drawn / 100.0) * 100.0
    test = stats.ks_2samp(sizes, drawn)
    shares = np.array([scene.mask.mean() for scene in made])
    rain = np.array([scene.rain_factor for scene in made])
    rank = stats.spearmanr(rain, shares).statistic
    facts = {
        "landslides": int(sizes.size),
        "share below 1600 m2": float(np.mean(sizes < 1600)),
        "share below 1600 m2 as drawn": float(np.mean(drawn < 1600)),
        "largest, m2": float(sizes.max()),
        "Kolmogorov-Smirnov distance of sizes": float(test.statistic),
        "landslide pixels, mean share": float(shares.mean()),
        "landslide pixels, least share": float(shares.min()),
        "landslide pixels, largest share": float(shares.max()),
        "Spearman of rain factor and share": float(rank),
        "rain factor, least": float(rain.min()),
        "rain factor, largest": float(rain.max()),
    }
    for key, value in facts.items():
        print(f"{key:<40}{value:>12.3f}")
    if options.json is not None:
        options.json.write_text(json.dumps({"terrain": rows, "landslides": facts}, indent=2) + "\n", encoding="utf-8")
    if options.pictures is not None:
        draw_relief(options.pictures, kashmir)
        draw_scene(options.pictures, 8)
        draw_channels(options.pictures, 5)


if __name__ == "__main__":
    main()
