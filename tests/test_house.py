"""The rules of the house that a machine can check: imports go down the floors, and few rooms know a big library."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import pytest

HOUSE = Path(__file__).parents[1] / "zoo"
BASE = {"errors", "files", "schema", "machine", "jobs"}
MAY_IMPORT = {
    "errors": set(),
    "files": {"errors"},
    "schema": {"errors", "files"},
    "machine": set(),
    "jobs": {"errors", "files", "schema", "machine"},
    "registry": BASE,
    "blocks": BASE,
    "models": BASE | {"registry", "blocks"},
    "testing": BASE | {"registry", "risk"},
    "physics": BASE,
    "rasters": BASE | {"physics"},
    "diagnostics": BASE | {"physics"},
    "risk": BASE | {"registry", "physics", "rasters", "diagnostics"},
    "datasets": BASE | {"registry", "physics", "rasters"},
    "evaluation": BASE | {"registry"},
    "training": BASE | {"registry", "physics", "datasets", "evaluation"},
    "weights": BASE | {"registry", "physics", "datasets", "evaluation", "training"},
    "deploy": BASE | {"registry", "blocks", "models", "physics", "datasets", "evaluation", "training"},
    "mapping": BASE | {"registry", "physics", "rasters", "evaluation", "training", "deploy"},
    "bench": BASE | {"registry", "physics", "datasets", "evaluation", "training", "deploy"},
    "api": BASE
    | {"registry", "physics", "rasters", "risk", "diagnostics", "evaluation", "training", "datasets", "bench"}
    | {"deploy", "mapping", "weights"},
    "cli": BASE
    | {"registry", "physics", "rasters", "risk", "diagnostics", "evaluation", "training", "datasets", "bench"}
    | {"deploy", "mapping", "weights", "api", "testing"},
}
ONLY_IN = {
    "torchgeo": {"datasets"},
    "albumentations": {"datasets"},
    "lightning": {"training", "datasets"},
    "rasterio": {"rasters"},
    "odc": {"rasters"},
    "geopandas": {"rasters"},
    "mapclassify": {"risk"},
    "sklearn": {"risk", "rasters"},
    "xgboost": {"risk"},
    "pystac_client": {"rasters"},
    "xarray": {"rasters"},
    "click": {"cli"},
    "onnx": {"deploy"},
    "onnxruntime": {"deploy"},
    "openvino": {"deploy"},
    "ray": {"bench", "jobs", "mapping"},
    "huggingface_hub": {"weights"},
}
PUBLIC_ROOMS = {"blocks", "datasets", "models", "physics", "risk", "testing"}
"""Rooms whose package face (``zoo.risk``, not ``zoo.risk.mapping``) belongs to the front door."""
COMMANDS_MAY_ALSO_IMPORT = {
    "bench_view.py": {"bench"},  # draws trials while they run, and names their types
    "recipe_options.py": {"training"},  # the help text of --recipe lists the recipes
    "risk/calibrate.py": {"risk"},  # prints the typed results of this room
    "risk/compare.py": {"risk"},
    "risk/map.py": {"risk"},
    "tables.py": {"bench", "evaluation"},  # prints leaderboards and changes
}
TORCH_FREE = (
    "__init__.py",
    "errors.py",
    "files.py",
    "schema.py",
    "jobs.py",
    "registry",
    "physics",
    "models/__init__.py",
    "models/builtin.py",
    "datasets/__init__.py",
    "datasets/builtin.py",
    "datasets/download.py",
    "datasets/archives.py",
    "datasets/source.py",
    "evaluation/builtin.py",
    "evaluation/quality.py",
    "training/builtin.py",
    "training/bundle_layout.py",
    "weights/__init__.py",
    "weights/hub.py",
    "weights/packaged.py",
    "weights/sources.py",
)


def sources(*under: str) -> Iterator[Path]:
    for name in under or (".",):
        place = HOUSE / name
        yield from sorted(place.rglob("*.py")) if place.is_dir() else [place]


@cache
def imports(path: Path) -> tuple[str, ...]:
    """Full names that a file imports; those under TYPE_CHECKING are left out. Each file is parsed once."""
    return tuple(_imports(path))


def _imports(path: Path) -> Iterator[str]:
    tree = ast.parse(path.read_text(encoding="utf-8"))
    skipped = {
        id(inner)
        for node in ast.walk(tree)
        if isinstance(node, ast.If) and "TYPE_CHECKING" in ast.unparse(node.test)
        for inner in ast.walk(node)
    }
    for node in ast.walk(tree):
        if id(node) in skipped:
            continue
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module:
            yield node.module


def room(path: Path) -> str:
    return path.relative_to(HOUSE).parts[0].removesuffix(".py")


@pytest.mark.parametrize("name", sorted(MAY_IMPORT))
def test_imports_go_down_the_floors(name: str) -> None:
    place = f"{name}.py" if (HOUSE / f"{name}.py").exists() else name
    for path in sources(place):
        for imported in imports(path):
            parts = imported.split(".")
            if parts[0] == "zoo" and len(parts) > 1 and parts[1] != name:
                assert parts[1] in MAY_IMPORT[name], f"{path.relative_to(HOUSE)} imports {imported}"


@pytest.mark.parametrize("path", list(sources("cli")), ids=lambda path: str(path.relative_to(HOUSE / "cli")))
def test_commands_call_only_the_front_door(path: Path) -> None:
    """A command parses options, calls one function of the public API, and prints."""
    also = COMMANDS_MAY_ALSO_IMPORT.get(str(path.relative_to(HOUSE / "cli")), set())
    allowed = BASE | {"registry", "api", "cli"} | also
    for imported in imports(path):
        first, *parts = imported.split(".")
        if first == "zoo" and parts and not (len(parts) == 1 and parts[0] in PUBLIC_ROOMS):
            assert parts[0] in allowed, f"{path.relative_to(HOUSE)} imports {imported}; call a function of zoo.api"


def test_the_exceptions_for_commands_are_needed() -> None:
    for name, rooms in COMMANDS_MAY_ALSO_IMPORT.items():
        used = {imported.split(".")[1] for imported in imports(HOUSE / "cli" / name) if imported.startswith("zoo.")}
        assert rooms <= used, f"cli/{name} no longer imports {rooms - used}"


def test_the_tests_mirror_the_tree() -> None:
    tests = Path(__file__).parent
    for folder in [path for path in tests.rglob("*") if path.is_dir() and not path.name.startswith(("_", "."))]:
        place = folder.relative_to(tests)
        assert place.parts[0] in ("docs", "faults", "data") or (HOUSE / place).is_dir(), (
            f"no zoo/{place} for tests/{place}"
        )


def test_no_import_circle() -> None:
    """A module imports nothing that leads back to it, neither at its top level nor inside a function."""
    graph = {module_of(path): set(internal_imports(path)) - {module_of(path)} for path in sources()}
    done: set[str] = set()

    def visit(name: str, trail: tuple[str, ...]) -> None:
        assert name not in trail, " -> ".join((*trail[trail.index(name) :], name))
        if name not in done:
            for imported in sorted(graph.get(name, ())):
                visit(imported, (*trail, name))
            done.add(name)

    for name in sorted(graph):
        visit(name, ())


def module_of(path: Path) -> str:
    parts = path.relative_to(HOUSE.parent).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


def internal_imports(path: Path) -> Iterator[str]:
    """Yield the modules of zoo that a file imports anywhere; those under TYPE_CHECKING are left out."""
    known = {module_of(one) for one in sources()}
    tree = ast.parse(path.read_text(encoding="utf-8"))
    typing = {
        id(inner)
        for node in ast.walk(tree)
        if isinstance(node, ast.If) and "TYPE_CHECKING" in ast.unparse(node.test)
        for inner in ast.walk(node)
    }
    for node in ast.walk(tree):
        if isinstance(node, ast.ImportFrom) and node.module and id(node) not in typing:
            for alias in node.names:
                inner = f"{node.module}.{alias.name}"
                yield from {inner if inner in known else node.module} & known


def test_long_functions_have_a_reason() -> None:
    """A function of more than 80 lines of code carries a comment ``# long: REASON`` on its first lines."""
    for path in sources():
        lines = path.read_text(encoding="utf-8").splitlines()
        for node in ast.walk(ast.parse("\n".join(lines))):
            if not isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
                continue
            first = node.body[0]
            documented = isinstance(first, ast.Expr) and isinstance(first.value, ast.Constant)
            docstring = (first.end_lineno or 0) - first.lineno + 1 if documented else 0
            length = (node.end_lineno or 0) - node.lineno + 1 - docstring
            head = "\n".join(lines[node.lineno - 2 : node.body[0].lineno])
            assert length <= 80 or "# long: " in head, f"{path.name}: {node.name} has {length} lines"


def test_every_room_has_a_floor() -> None:
    rooms = {path.name.removesuffix(".py") for path in HOUSE.iterdir() if not path.name.startswith("_")}
    assert rooms - {"py.typed"} == set(MAY_IMPORT)


@pytest.mark.parametrize("library", sorted(ONLY_IN))
def test_big_libraries_are_known_to_few_rooms(library: str) -> None:
    for path in sources():
        if any(name.split(".")[0] == library for name in imports(path)):
            assert room(path) in ONLY_IN[library], f"{path.relative_to(HOUSE)} imports {library}"


def test_albumentations_is_imported_by_one_module() -> None:
    users = [path for path in sources() if any(name.split(".")[0] == "albumentations" for name in imports(path))]
    assert [str(path.relative_to(HOUSE)) for path in users] == ["datasets/augmentation.py"]


@pytest.mark.parametrize("path", list(sources(*TORCH_FREE)), ids=lambda path: str(path.relative_to(HOUSE)))
def test_the_catalogue_knows_no_torch(path: Path) -> None:
    assert not {name.split(".")[0] for name in imports(path)} & {"torch", "torchgeo", "lightning", "timm"}


def test_files_do_one_job() -> None:
    long = {str(path.relative_to(HOUSE)): len(path.read_text(encoding="utf-8").splitlines()) for path in sources()}
    assert {name: lines for name, lines in long.items() if lines > 900} == {}


def test_no_path_of_a_machine_and_no_unfinished_work() -> None:
    repository = HOUSE.parent
    documents = [path for kind in ("*.md", "*.ipynb") for path in sorted((repository / "docs").rglob(kind))]
    for path in [*sources(), *sorted((repository / "tests").rglob("*.py")), repository / "README.md", *documents]:
        if path == Path(__file__):
            continue
        text = path.read_text(encoding="utf-8")
        found = re.search(r"TODO|FIXME|XXX|/(root|home|work)/", text)
        assert found is None, f"{path.relative_to(repository)} holds {found.group()}"
