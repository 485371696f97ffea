"""Energy counters of the machine: RAPL of Intel and AMD processors on Linux, NVML of NVIDIA GPUs."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import torch

RAPL = Path("/sys/class/powercap")


class EnergyMeter:
    """Reads a counter of joules; the whole package or GPU counts, whatever else runs on it.

    Attributes:
        source: ``rapl`` or ``nvml``; empty where nothing counts.
        why_not: the reason then.
    """

    source = ""

    def __init__(self, why_not: str = "") -> None:
        self.why_not = why_not

    @staticmethod
    def find(device: torch.device, rapl: Path = RAPL) -> EnergyMeter:
        """The meter of a device, or one that reads nothing and says why.

        Args:
            device: of the computation.
            rapl: the power capping folder of the kernel.
        """
        if device.type == "cuda":
            return _nvml(device.index or 0)
        if device.type != "cpu":
            return EnergyMeter(f"no counter is known for {device.type}")
        packages = sorted(rapl.glob("intel-rapl:[0-9]*")) if rapl.is_dir() else []
        packages = [package for package in packages if package.name.count(":") == 1]
        if not packages:
            return EnergyMeter("this machine has no RAPL counter")
        meter = RaplMeter(packages)
        try:
            meter.joules()
        except (OSError, ValueError) as error:
            return EnergyMeter(
                f"the RAPL counter cannot be read ({type(error).__name__}); it takes root on most systems"
            )
        return meter

    def joules(self) -> list[float] | None:
        """The counters now, or ``None``."""
        return None

    def between(self, before: list[float], after: list[float]) -> float:
        """Joules from one reading to a later one."""
        return sum(after) - sum(before)


class RaplMeter(EnergyMeter):
    """The package counters of ``/sys/class/powercap``, which wrap around.

    Args:
        packages: folders ``intel-rapl:N``.
    """

    source = "rapl"

    def __init__(self, packages: list[Path]) -> None:
        super().__init__()
        self.packages = packages

    def joules(self) -> list[float]:
        """One value a package."""
        return [int((package / "energy_uj").read_text(encoding="ascii")) / 1e6 for package in self.packages]

    def between(self, before: list[float], after: list[float]) -> float:
        """Joules of all packages, one wrap-around of each allowed for."""
        total = 0.0
        for package, first, last in zip(self.packages, before, after, strict=True):
            if last < first:
                last += int((package / "max_energy_range_uj").read_text(encoding="ascii")) / 1e6
            total += last - first
        return total


class NvmlMeter(EnergyMeter):
    """The counter of one GPU since the driver was loaded.

    Args:
        nvml: the module ``pynvml``, initialised.
        index: of the GPU.
    """

    source = "nvml"

    def __init__(self, nvml: Any, index: int) -> None:
        super().__init__()
        self._nvml = nvml
        self._handle = nvml.nvmlDeviceGetHandleByIndex(index)

    def joules(self) -> list[float]:
        """One value."""
        return [self._nvml.nvmlDeviceGetTotalEnergyConsumption(self._handle) / 1e3]


def _nvml(index: int) -> EnergyMeter:
    try:
        import pynvml

        pynvml.nvmlInit()
        meter = NvmlMeter(pynvml, index)
        meter.joules()
    except ImportError:
        return EnergyMeter("NVML is not installed (pip install nvidia-ml-py)")
    except Exception as error:  # NVML's errors share no base class with anything else
        return EnergyMeter(f"NVML does not answer ({type(error).__name__})")
    return meter
