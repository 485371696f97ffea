"""Compare the probability of slope failure of zoo with landlab's LandslideProbability on one grid.

    pip install landlab==2.11.0 requireit==0.8.0     # only for this comparison
    python benchmarks/landlab_safety.py

landlab needs requireit. requireit 0.9.0 installs on Python 3.11 but uses the syntax of Python 3.12, so landlab cannot
be imported with it.

Both get the same terrain, upslope area, rain and soil distributions: the ranges around the most likely value are
those built into landlab (soil depth and conductivity -30 % to +10 %, friction -18 % to +32 %). Both draw the same
number of random soils. landlab draws them again for every pixel; zoo draws one set for all pixels, as a Latin
hypercube. The results differ by the sampling noise of both; the noise expected for two exact samplers is printed next
to the difference.

They take turns in one process on one thread. Processor time is measured, so other programs slow both down.
"""

from __future__ import annotations

import argparse
import platform
import time
import warnings
from importlib.metadata import version

import numpy as np

from zoo.datasets.synthetic.terrain import TerrainConfig, make_terrain
from zoo.physics import SoilRange, failure_probability, slope_degrees
from zoo.physics.stability import storm_recharge, upslope_area

CELL = 10.0
DENSITY = 2000.0
"""kg/m3; landlab fixes the ratio of the densities of water and soil at 0.5."""
UNIT_WEIGHT = 2 * 9.81
COHESION = (2.0, 5.0, 11.0)
FRICTION, DEPTH, CONDUCTIVITY = 33.0, 1.7, 12.0
SOIL = SoilRange(
    cohesion=COHESION,
    friction=(0.82 * FRICTION, FRICTION, 1.32 * FRICTION),
    depth=(0.7 * DEPTH, DEPTH, 1.1 * DEPTH),
    conductivity=(0.7 * CONDUCTIVITY, CONDUCTIVITY, 1.1 * CONDUCTIVITY),
    infiltration=(0.7, 0.7, 0.7),
)


def main() -> None:
    """Run the comparison and print it."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--side", type=int, default=80, help="pixels along a side")
    parser.add_argument("--draws", type=int, default=250, help="random soils; 250 is landlab's default")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--rain", type=float, nargs=2, default=(4.0, 1.0), metavar=("MM_H", "DAYS"))
    options = parser.parse_args()
    rain = tuple(options.rain)
    elevation = terrain(options.side)
    slope = np.clip(slope_degrees(elevation, CELL), 0.1, 60.0)
    area = upslope_area(elevation, CELL)
    inner = np.s_[1:-1, 1:-1]
    theirs, ours, seconds = [], [], {"landlab": [], "zoo": []}
    for number in range(options.rounds):
        begin = time.process_time()
        theirs.append(landlab_probability(slope, area, rain, options.draws, number)[inner])
        seconds["landlab"].append(time.process_time() - begin)
        begin = time.process_time()
        found = failure_probability(
            slope, area, rain, SOIL, draws=options.draws, seed=number, soil_unit_weight=UNIT_WEIGHT
        )
        ours.append(found[0][inner])
        seconds["zoo"].append(time.process_time() - begin)
    a, b = np.stack(theirs), np.stack(ours)
    mean_a, mean_b = a.mean(axis=0), b.mean(axis=0)
    pixels, draws = mean_a.size, options.draws
    noise = np.sqrt(2 * mean_a * (1 - mean_a) / (draws * options.rounds))
    print(
        f"landlab {version('landlab')}, numpy {np.__version__}, {platform.machine()}, {options.rounds} rounds by turns"
    )
    print(f"{pixels:,} pixels, {draws} random soils, rain {rain[0]:g} mm/h for {rain[1]:g} days\n")
    print("| | landlab | zoo |\n|---|---|---|")
    print(f"| mean probability of failure | {mean_a.mean():.4f} | {mean_b.mean():.4f} |")
    print(f"| share of the pixels at 0.5 or more | {(mean_a >= 0.5).mean():.4f} | {(mean_b >= 0.5).mean():.4f} |")
    for low, high in ((15, 25), (25, 35), (35, 60)):
        steep = (slope[inner] >= low) & (slope[inner] < high)
        values = (f"{one[steep].mean():.4f}" for one in (mean_a, mean_b))
        print(f"| mean on slopes of {low} to {high} degrees | {' | '.join(values)} |")
    medians = {name: float(np.median(values)) for name, values in seconds.items()}
    per_pixel = (f"{value / pixels * 1e6:.1f}" for value in medians.values())
    print(f"| microseconds of processor a pixel, median | {' | '.join(per_pixel)} |")
    print(f"\nmean absolute difference {np.abs(mean_a - mean_b).mean():.4f}, ", end="")
    print(f"expected from the draws alone {(noise * np.sqrt(2 / np.pi)).mean():.4f}; ", end="")
    print(f"correlation {np.corrcoef(mean_a.ravel(), mean_b.ravel())[0, 1]:.5f}")
    print(f"zoo is {medians['landlab'] / medians['zoo']:.0f} times as fast")


def terrain(side: int) -> np.ndarray:
    """Return a made-up mountain, float32 (side, side), m."""
    return make_terrain(0, side, CELL, TerrainConfig()).elevation.astype(np.float32)


def landlab_probability(
    slope: np.ndarray, area: np.ndarray, rain: tuple[float, float], draws: int, seed: int
) -> np.ndarray:
    """Return landlab's probability of failure; the outermost pixels are not computed."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        from landlab import RasterModelGrid
        from landlab.components import LandslideProbability

        grid = RasterModelGrid(slope.shape, xy_spacing=CELL)
        theta = np.radians(slope).ravel()
        depth = DEPTH * np.exp(-0.6 * np.tan(theta))
        assert 0.7 * depth.min() > 0.3, "zoo keeps depths between 0.3 and 3 m"
        # landlab's thickness is normal to the slope, and its transmissivity is conductivity x that thickness.
        fields = {
            "topographic__slope": np.tan(theta),
            "topographic__specific_contributing_area": area.ravel(),
            "soil__transmissivity": CONDUCTIVITY * depth,
            "soil__saturated_hydraulic_conductivity": CONDUCTIVITY / np.cos(theta),
            "soil__mode_total_cohesion": np.full(theta.size, COHESION[1] * 1000),
            "soil__minimum_total_cohesion": np.full(theta.size, COHESION[0] * 1000),
            "soil__maximum_total_cohesion": np.full(theta.size, COHESION[2] * 1000),
            "soil__internal_friction_angle": np.full(theta.size, FRICTION),
            "soil__density": np.full(theta.size, DENSITY),
            "soil__thickness": depth * np.cos(theta),
        }
        for name, values in fields.items():
            grid.add_field(name, values.astype(float), at="node")
        recharge = storm_recharge(*rain) * 1000
        model = LandslideProbability(
            grid,
            number_of_iterations=draws,
            groundwater__recharge_distribution="uniform",
            groundwater__recharge_min_value=recharge * (1 - 1e-6),
            groundwater__recharge_max_value=recharge * (1 + 1e-6),
            seed=seed,
        )
        model.calculate_landslide_probability()
    return grid.at_node["landslide__probability_of_failure"].reshape(slope.shape)


if __name__ == "__main__":
    main()
