"""What the catalogue says of HR-GLDD. Imports no torch."""

from __future__ import annotations

from zoo.registry.specs import DatasetSpec, Option

HRGLDD = DatasetSpec(
    name="hrgldd",
    target="zoo.datasets.hrgldd:HRGLDD",
    summary="1,758 PlanetScope patches of 4 bands at 3 m; five rainfall and five earthquake events",
    channels=("red", "green", "blue", "nir"),
    licence="CC-BY-4.0",
    citation="Meena et al. (2023), Earth System Science Data 15, 3283-3298",
    doi="10.5194/essd-15-3283-2023",
    url="https://zenodo.org/records/7189381",
    options=(
        Option("bands", "all", "all four, or names such as red,green,blue"),
        Option("order", "rgbn", "order of the bands in the arrays, which the authors do not state", ("rgbn", "bgrn")),
        Option("download", False, "fetch what is missing from Zenodo (576 MB)"),
        Option("checksum", False, "hold the files against their published checksum"),
        Option("cache", True, "keep decoded patches in the cache folder"),
    ),
)
