"""What the extra ``export`` brings: imported when it is needed, named when it is missing."""

from __future__ import annotations

from importlib import import_module
from typing import Any

from zoo.errors import ZooError


def require(module: str, purpose: str) -> Any:
    """Import ``module``.

    Args:
        module: full name, such as ``onnxruntime.quantization``.
        purpose: what needs it, for the message.

    Raises:
        ZooError: that says which extra to install.
    """
    try:
        return import_module(module)
    except ImportError as error:
        missing = (error.name or module).partition(".")[0]
        raise ZooError(
            f"{purpose} needs {missing}, which is not installed", hint="Run: pip install 'landslide-zoo[export]'"
        ) from error
