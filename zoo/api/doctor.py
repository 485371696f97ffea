"""Find problems that keep zoo from working on this machine: ``zoo.doctor`` and ``zoo doctor``."""

from __future__ import annotations

import os
import platform
import shutil
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, distribution, version
from pathlib import Path
from typing import Literal

from zoo import __version__
from zoo.errors import ZooError, one_line
from zoo.files import cache_folder, check_could_write, config_folder, home_folder
from zoo.machine import available_cores, cores_in_use, describe_use, is_busy
from zoo.registry import plugin_reports
from zoo.registry.plugins import OWN_DISTRIBUTION

Status = Literal["ok", "note", "problem"]

LARGE_CACHE = 10 * 10**9
"""Size in bytes above which a cache is reported."""
MIN_FREE_BYTES = 2 * 10**9
"""Free space in bytes below which a disk counts as nearly full."""
CONFLICTS = (
    (
        "albumentationsx",
        "it replaces the module albumentations with one under the AGPL",
        "pip uninstall albumentationsx",
    ),
    ("opencv-python", "it overwrites files of opencv-python-headless", "pip uninstall opencv-python"),
)
"""Packages that conflict with ours: name, reason, advice. The second conflicts only if its twin is installed."""
DUPLICATE_PACKAGES = {"opencv-python": "opencv-python-headless"}


@dataclass(frozen=True)
class Finding:
    """One finding.

    Attributes:
        topic: what was checked, such as ``versions``.
        status: ``ok``, ``note`` (for information) or ``problem`` (something will fail or mislead).
        text: description of the finding.
        advice: what to do; empty if there is nothing to do.
    """

    topic: str
    status: Status
    text: str
    advice: str = ""


def doctor() -> list[Finding]:
    """Check the environment, versions, devices, load, memory, caches, data folders and plugins.

    Nothing is changed, and nothing is downloaded.

    Returns:
        The findings, in a fixed order of topics.

    >>> import zoo
    >>> [one for one in zoo.doctor() if one.status == "problem"]                    # doctest: +SKIP
    []
    """
    found: list[Finding] = []
    for topic, look in TOPICS.items():
        try:
            found += look()
        except Exception as error:  # a library that cannot be imported, or a file system that denies access
            reason, advice = one_line(error), "Install zoo again"
            if isinstance(error, ZooError):
                reason, advice = error.problem, error.hint or advice
            found.append(Finding(topic, "problem", f"cannot be examined ({reason})", advice))
    return found


def _environment() -> Iterator[Finding]:
    python = platform.python_version()
    yield Finding("environment", "ok", f"landslide-zoo {__version__}, Python {python}, {platform.platform()}")
    inside = sys.prefix != sys.base_prefix or bool(os.environ.get("CONDA_PREFIX"))
    if inside:
        yield Finding("environment", "ok", f"virtual environment {sys.prefix}")
    else:
        advice = "Install zoo into one: python3 -m venv .venv"
        yield Finding("environment", "note", f"no virtual environment: {sys.prefix}", advice)


def _versions() -> Iterator[Finding]:
    """Compare every package that zoo or a plugin needs with the requirements of its dependents."""
    wrong = list(unmet_requirements(OWN_DISTRIBUTION, *(report.distribution for report in plugin_reports())))
    for text, advice in wrong:
        yield Finding("versions", "problem", text, advice)
    for name, reason, advice in CONFLICTS:
        if _version(name) and (name not in DUPLICATE_PACKAGES or _version(DUPLICATE_PACKAGES[name])):
            yield Finding("versions", "problem", f"{name} {_version(name)} is installed: {reason}", advice)
    known = [f"{name} {_version(name)}" for name in ("torch", "torchgeo", "numpy", "lightning", "timm", "rasterio")]
    if not wrong:
        yield Finding("versions", "ok", "all requirements are met: " + ", ".join(known))
    for extra, names in _extras().items():
        absent = [name for name in names if not _version(name)]
        if absent:
            advice = f"pip install 'landslide-zoo[{extra}]' if you need it"
            yield Finding("versions", "note", f"extra {extra!r}: {', '.join(absent)} not installed", advice)


def unmet_requirements(*roots: str) -> Iterator[tuple[str, str]]:
    """Yield the problem and advice for every unmet requirement of these distributions and their dependencies.

    Args:
        roots: names of installed distributions.
    """
    from packaging.requirements import Requirement
    from packaging.utils import canonicalize_name

    waiting = [(name, "") for name in dict.fromkeys(roots)]
    seen: set[str] = set()
    while waiting:
        name, extra = waiting.pop()
        if (key := f"{canonicalize_name(name)}[{extra}]") in seen:
            continue
        seen.add(key)
        try:
            needs = distribution(name).requires or []
        except PackageNotFoundError:
            continue
        for need in map(Requirement, needs):
            if need.marker is not None and not need.marker.evaluate({"extra": extra}):
                continue
            installed = _version(need.name)
            advice = f"pip install '{need.name}{need.specifier}'"
            if not installed:
                yield f"{need.name} is not installed, and {name} needs it", advice
            elif not need.specifier.contains(installed, prereleases=True):
                yield f"{name} needs {need.name} {need.specifier}, and {installed} is installed", advice
            else:
                waiting += [(need.name, extra) for extra in ("", *need.extras)]


def _devices() -> Iterator[Finding]:
    import torch

    for index in range(torch.cuda.device_count() if torch.cuda.is_available() else 0):
        properties = torch.cuda.get_device_properties(index)
        yield Finding("devices", "ok", f"cuda:{index}: {properties.name}, {_size(properties.total_memory)}")
    if torch.backends.mps.is_available():
        yield Finding("devices", "ok", "mps: the GPU of this Mac")
    if not torch.cuda.is_available():
        built = torch.version.cuda
        advice = f"torch is built for CUDA {built}: check the driver with nvidia-smi" if built and _has_gpu() else ""
        text = "no GPU: everything runs on the processor"
        yield Finding("devices", "problem" if advice else "note", text, advice)


def _has_gpu() -> bool:
    return Path("/proc/driver/nvidia").exists() or shutil.which("nvidia-smi") is not None


def _threads() -> Iterator[Finding]:
    import torch

    cores = available_cores()
    threads = torch.get_num_threads()
    text = f"torch uses {threads} threads on {cores} cores"
    if threads > cores:
        yield Finding("threads", "problem", text, f"Set OMP_NUM_THREADS={cores}: threads that share a core wait")
    else:
        yield Finding("threads", "ok", text)
    in_use = cores_in_use()
    if in_use is not None:
        advice = "Time models on a machine that does nothing else" if is_busy(in_use) else ""
        yield Finding("load", "note" if advice else "ok", describe_use(in_use), advice)


def _memory() -> Iterator[Finding]:
    memory = _meminfo()
    if memory:
        free, total = memory
        little = free < MIN_FREE_BYTES
        advice = "Train with a smaller --batch-size, or end other programs" if little else ""
        text = f"{_size(free)} of {_size(total)} free"
        yield Finding("memory", "note" if little else "ok", text, advice)
    preloaded = os.environ.get("LD_PRELOAD", "")
    other = next((name for name in ("jemalloc", "tcmalloc", "mimalloc") if name in preloaded), None)
    if other:
        yield Finding(
            "allocator", "note", f"{other} replaces the allocator of the C library", "Timings apply to this allocator"
        )
        return
    library, release = platform.libc_ver()
    if library == "glibc":
        yield Finding("allocator", "ok", f"glibc {release}: commands of zoo keep large tensors on the heap")
    else:
        text = "the C library is not glibc, so every large tensor is mapped again"
        yield Finding("allocator", "note", text)


def _meminfo() -> tuple[int, int] | None:
    try:
        lines = Path("/proc/meminfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        return None
    values = {line.split(":")[0]: int(line.split()[1]) * 1024 for line in lines if len(line.split()) > 1}
    return (values["MemAvailable"], values["MemTotal"]) if {"MemAvailable", "MemTotal"} <= values.keys() else None


def _caches() -> Iterator[Finding]:
    root = cache_folder("x").parent
    try:
        check_could_write(root)
    except ZooError as error:
        yield Finding("caches", "problem", f"{root} {error.problem}", "Name another folder in ZOO_CACHE")
    places = {path: root / path.name for path in sorted(root.iterdir())} if root.is_dir() else {}
    for place in places.values():
        yield _cache(f"{place}", place)
    hub = os.environ.get("HF_HOME") or str(home_folder() / ".cache" / "huggingface")
    if Path(hub).is_dir():
        yield _cache(f"{hub} (weights from the Hugging Face hub)", Path(hub))
    if not places:
        yield Finding("caches", "ok", f"{root} is empty")
    yield _space("caches", root)


def _cache(text: str, place: Path) -> Finding:
    size = folder_size(place)
    large = size > LARGE_CACHE
    return Finding(
        "caches", "note" if large else "ok", f"{text}: {_size(size)}", f"You may delete {place}" if large else ""
    )


def _data() -> Iterator[Finding]:
    root = cache_folder("datasets")
    found = (
        [path for path in sorted(root.iterdir()) if path.is_dir() and path.name != "headers"] if root.is_dir() else []
    )
    for place in found:
        yield Finding("data", "ok", f"{place.name}: {place}, {_size(folder_size(place))}")
    if not found:
        advice = "Give --data-option root=FOLDER, or see zoo datasets for what can be downloaded"
        yield Finding("data", "note", f"no published data set in {root}", advice)
    yield _space("data", Path.cwd())


def _space(topic: str, folder: Path) -> Finding:
    existing = next(one for one in (folder.absolute(), *folder.absolute().parents) if one.exists())
    free = shutil.disk_usage(existing).free
    little = free < MIN_FREE_BYTES
    text = f"{_size(free)} free on the disk of {folder}"
    return Finding(topic, "problem" if little else "ok", text, "Free some space" if little else "")


def _plugins() -> Iterator[Finding]:
    reports = [
        report for report in plugin_reports() if report.distribution != OWN_DISTRIBUTION or report.status != "loaded"
    ]
    for report in reports:
        name = f"{report.name} {report.version}".rstrip()
        if report.status == "failed":
            advice = f"Tell its author (zoo plugins --json has the traceback), or: zoo plugins disable {report.name}"
            yield Finding("plugins", "problem", f"{name} failed: {report.error}", advice)
        elif report.status == "disabled":
            yield Finding("plugins", "note", f"{name} is disabled", f"zoo plugins enable {report.name}")
        elif report.status == "skipped":
            yield Finding("plugins", "note", f"{name} is left out by ZOO_PLUGINS", "Unset ZOO_PLUGINS to load it")
        else:
            kinds = ", ".join(kind.replace("_", " ") for kind in report.provides)
            yield Finding("plugins", "ok", f"{name} registers {kinds}" if kinds else f"{name} is loaded")
    if not reports:
        yield Finding("plugins", "ok", "no plugins are installed")
    yield Finding("plugins", "ok", f"settings in {config_folder()}")


TOPICS: dict[str, Callable[[], Iterator[Finding]]] = {
    "environment": _environment,
    "versions": _versions,
    "devices": _devices,
    "threads": _threads,
    "memory": _memory,
    "caches": _caches,
    "data": _data,
    "plugins": _plugins,
}
"""Checks, in the order in which they run."""


def folder_size(folder: Path) -> int:
    """Return the size of all files in a folder in bytes; links are not followed, and unreadable files are skipped."""
    total = 0
    for where, _, names in os.walk(folder, onerror=None):
        for name in names:
            try:
                total += (Path(where) / name).lstat().st_size
            except OSError:
                continue
    return total


def _extras() -> dict[str, tuple[str, ...]]:
    return {
        "risk": ("scikit-learn", "xgboost", "mapclassify", "openpyxl", "pyarrow"),
        "export": ("onnx", "onnxruntime", "onnxscript", "openvino"),
        "stac": ("odc-stac", "pystac-client"),
        "ray": ("ray",),
    }


def _version(name: str) -> str:
    try:
        return version(name)
    except PackageNotFoundError:
        return ""


def _size(count: float) -> str:
    for unit in ("B", "kB", "MB"):
        if count < 1000:
            return f"{count:.0f} {unit}"
        count /= 1000
    return f"{count:.1f} GB"
