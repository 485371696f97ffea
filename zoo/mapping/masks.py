"""Where a map is wanted."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from zoo.mapping.tiling import Reach
from zoo.rasters.areas import Area
from zoo.rasters.reading import window_of


class AreaMask:
    """An :class:`Area` by rows and columns."""

    def __init__(self, area: Area) -> None:
        self._area = area

    def covers(self, rows: Reach, columns: Reach) -> NDArray[np.bool_]:
        """Bool (rows, columns): the pixels whose centre lies in the area."""
        return self._area.covers(window_of((rows.start, rows.stop), (columns.start, columns.stop)))
