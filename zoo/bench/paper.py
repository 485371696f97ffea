"""Tables 3 to 6 of the paper, shown next to ours. They come from other data and another machine and are not a target.

Source: Zheng et al. 2025, doi 10.4236/jcc.2025.138004. The paper prints Dice in percent and truncates parameters to
whole millions. Tables 3 and 5 have no accuracy, precision, recall and parameters; Table 4 has no FPS either.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from zoo.bench.config import TrialConfig


@dataclass(frozen=True)
class PaperRow:
    """Row of a table of the paper; ``None`` if the table has no such column.

    Attributes:
        label: name of the model in the paper.
        dice: in [0, 1].
        loss: as printed; the paper does not name the function.
        fps: images per second on an RTX 3060 Ti.
        accuracy: in [0, 1].
        precision: in [0, 1].
        recall: in [0, 1].
        parameters_m: millions, truncated.
    """

    label: str
    dice: float
    loss: float
    fps: float | None = None
    accuracy: float | None = None
    precision: float | None = None
    recall: float | None = None
    parameters_m: int | None = None


TABLE_3 = (
    PaperRow("Standard Convolution", 0.623, 0.034, 22.98),
    PaperRow("Dilated Convolution", 0.633, 0.028, 22.74),
    PaperRow("Grouped Convolution", 0.620, 0.052, 23.06),
    PaperRow("Standard + Dilated", 0.646, 0.022, 22.83),
    PaperRow("Standard + Grouped", 0.629, 0.040, 22.90),
    PaperRow("Dilated + Grouped", 0.638, 0.031, 22.88),
)
TABLE_4 = (
    PaperRow("0.3 : 0.7", 0.638, 0.031),
    PaperRow("0.4 : 0.6", 0.642, 0.028),
    PaperRow("0.5 : 0.5", 0.646, 0.022),
    PaperRow("0.6 : 0.4", 0.635, 0.034),
    PaperRow("0.7 : 0.3", 0.630, 0.039),
)
TABLE_5 = (
    PaperRow("NULL (U-net + Hybrid Convolution)", 0.646, 0.022, 22.83),
    PaperRow("Channel Attention", 0.649, 0.019, 22.02),
    PaperRow("Spatial Attention", 0.651, 0.018, 21.77),
    PaperRow("Channel + Spatial", 0.667, 0.016, 21.66),
)
TABLE_6 = {
    "unet": PaperRow("U-net", 0.623, 0.034, 22.98, 0.982, 0.80, 0.71, 14),
    "mobilenetv2": PaperRow("MobileNetV2", 0.597, 0.035, 25.23, 0.968, 0.76, 0.70, 13),
    "deeplabv3plus": PaperRow("DeepLabV3+", 0.659, 0.021, 20.15, 0.980, 0.88, 0.74, 58),
    "segnet": PaperRow("SegNet", 0.636, 0.036, 21.62, 0.979, 0.86, 0.72, 24),
    "drs_unet": PaperRow("DRs-Unet", 0.653, 0.026, 20.92, 0.983, 0.85, 0.73, 47),
    "model54_standin": PaperRow("Model [54]", 0.660, 0.019, 22.45, 0.980, 0.85, 0.77, 23),
    "enhanced_unet": PaperRow("Ours", 0.667, 0.016, 21.66, 0.988, 0.86, 0.79, 15),
}
TABLES: Mapping[str, Mapping[str, PaperRow]] = MappingProxyType(
    {
        f"table{number}": MappingProxyType({row.label: row for row in rows})
        for number, rows in ((3, TABLE_3), (4, TABLE_4), (5, TABLE_5), (6, TABLE_6.values()))
    }
)
"""Rows by table and by the label of the paper."""


def paper_row(config: TrialConfig) -> PaperRow | None:
    """Return the row of the paper to show next to a trial; ``None`` if there is none.

    The configuration names the table, and the title of the trial names the row. A trial without a configuration has a
    row of Table 6 if its model has default options.
    """
    if config.adapted:
        return None
    if config.benchmark:
        return TABLES.get(config.paper, {}).get(config.title)
    return None if config.options else TABLE_6.get(config.model)


def paper_table(config: TrialConfig) -> str:
    """Return the name of the table that :func:`paper_row` takes its row from, such as ``Table 6``."""
    return f"Table {config.paper.removeprefix('table')}" if config.benchmark and config.paper else "Table 6"
