"""From a stack and an inventory to patches and masks that the folder data set reads."""

from zoo.rasters.patches.cutting import CutOptions, Report, SceneReport, cut_patches

__all__ = ["CutOptions", "Report", "SceneReport", "cut_patches"]
