"""Estimate machines, hours, cost and bottleneck for a province, a country and the globe, from measured speeds.

    python benchmarks/scene.py --json scene.json
    python benchmarks/scale.py --scene scene.json
    python benchmarks/scale.py --mapping 6.6 --stacking 0.86 --machines 100 --price 0.04

Every printed number is one line of arithmetic on the inputs above it; nothing is measured here.
"""

from __future__ import annotations

import argparse
import json
from dataclasses import dataclass
from pathlib import Path

PLACES = {
    "Lombardy (a province's size)": 23_864,
    "Italy": 302_073,
    "land of the globe without Antarctica": 134_900_000,
}
"""km2."""

BANDS_IN, BYTES_A_BAND = 7, 4


@dataclass(frozen=True)
class Inputs:
    """What the arithmetic starts from.

    Attributes:
        pixel: side of a pixel in metres.
        mapping: Mpx/s of `zoo map` on one machine (benchmarks/scene.py).
        stacking: Mpx/s of `zoo stack` on one machine (benchmarks/stack_memory.py).
        packed: bytes a pixel of the map, compressed with its overviews.
        network: MB/s that a machine gets from the storage of the stacks.
        machines: of that kind.
        price: price per machine hour, in any currency.
    """

    pixel: float
    mapping: float
    stacking: float
    packed: float
    network: float
    machines: int
    price: float


def mapping_speed(path: Path, precision: str) -> float:
    """Mpx/s of `zoo map` out of the JSON of benchmarks/scene.py."""
    rows = json.loads(path.read_text(encoding="utf-8"))
    found = [
        row["megapixels_per_s"]
        for row in rows
        if row["pipeline"] == "zoo" and row["precision"] == precision and row["allocator"] == "installed"
    ]
    if not found:
        raise SystemExit(f"{path}: no row of zoo, {precision}, as installed")
    return float(found[0])


def lines(inputs: Inputs) -> list[str]:
    """Return the arithmetic, one line each."""
    a_km2 = 1e6 / inputs.pixel**2
    read = BANDS_IN * BYTES_A_BAND
    fed = inputs.network / read
    rate = min(inputs.mapping, fed)
    together = 1 / (1 / inputs.stacking + 1 / rate)
    told = [
        f"pixels per km2        1,000,000 / {inputs.pixel:g}^2 = {a_km2:,.0f}",
        f"bytes read per pixel  {BANDS_IN} bands x {BYTES_A_BAND} = {read}",
        f"fed by the network    {inputs.network:g} MB/s / {read} = {fed:.2f} Mpx/s, uncompressed",
        f"mapping               min({inputs.mapping:.2f}, {fed:.2f}) = {rate:.2f} Mpx/s per machine: "
        + ("the network is the bottleneck" if fed < inputs.mapping else "the model is the bottleneck"),
        f"stacking and mapping  1 / (1 / {inputs.stacking:.2f} + 1 / {rate:.2f}) = {together:.2f} Mpx/s per machine: "
        + ("stacking" if inputs.stacking < rate else "mapping")
        + f" takes {max(1 / inputs.stacking, 1 / rate) * together:.0%} of the time",
    ]
    for name, km2 in PLACES.items():
        pixels = km2 * a_km2 / 1e6
        alone, both = pixels / rate / 3600, pixels / together / 3600
        told += [
            "",
            f"{name}: {km2:,} km2",
            f"  pixels              {km2:,} x {a_km2:,.0f} = {pixels / 1e3:,.2f} billion",
            f"  mapping alone       {pixels:,.0f} Mpx / {rate:.2f} Mpx/s / 3600 = {alone:,.2f} machine hours",
            f"  with stacking       {pixels:,.0f} Mpx / {together:.2f} Mpx/s / 3600 = {both:,.2f} machine hours",
            f"  on {inputs.machines} machines".ljust(22)
            + f"{both:,.2f} / {inputs.machines} = {both / inputs.machines:,.2f} hours",
            f"  price               {both:,.2f} x {inputs.price:g} = {both * inputs.price:,.2f}",
            f"  stacks, in and out  {pixels:,.0f} Mpx x {read} B = {pixels * read / 1e6:,.2f} TB",
            f"  the map             {pixels:,.0f} Mpx x {inputs.packed:g} B = {pixels * inputs.packed / 1e3:,.2f} GB",
        ]
    return told


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--scene", type=Path, help="JSON of benchmarks/scene.py")
    parser.add_argument("--precision", default="fp32", help="row of --scene")
    parser.add_argument("--mapping", type=float, help="Mpx/s of zoo map, instead of --scene")
    parser.add_argument("--stacking", type=float, default=0.86, help="Mpx/s of zoo stack: 120.6 Mpx in 140 s")
    parser.add_argument("--packed", type=float, default=0.5, help="bytes per pixel of a map with its overviews")
    parser.add_argument("--pixel", type=float, default=10, help="metres")
    parser.add_argument("--network", type=float, default=125, help="MB/s per machine; 125 is 1 Gbit/s")
    parser.add_argument("--machines", type=int, default=10)
    parser.add_argument("--price", type=float, default=0.1, help="price per machine hour, in any currency")
    a = parser.parse_args()
    if (a.scene is None) == (a.mapping is None):
        parser.error("give --scene FILE or --mapping MPX_PER_S")
    mapping = a.mapping if a.scene is None else mapping_speed(a.scene, a.precision)
    inputs = Inputs(a.pixel, mapping, a.stacking, a.packed, a.network, a.machines, a.price)
    for line in lines(inputs):
        print(line)


if __name__ == "__main__":
    main()
