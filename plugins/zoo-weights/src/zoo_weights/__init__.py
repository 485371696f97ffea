"""Registration of the bundles of this distribution as weights.

Each folder in ``bundles`` is one bundle. Its ``bundle.json`` holds everything that the list of weights shows.
"""

from __future__ import annotations

from zoo.registry import hookimpl
from zoo.registry.hookspecs import RegisterWeights
from zoo.weights.packaged import packaged_weights


@hookimpl
def zoo_register_weights(register: RegisterWeights) -> None:
    """Register every bundle in the folder ``bundles``."""
    for spec in packaged_weights("zoo_weights", "bundles"):
        register(spec)
