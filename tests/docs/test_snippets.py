"""Run the commands and examples of the documentation.

A block marked ``bash`` or ``python`` is executed, page by page and in order, in a folder that holds the files which the
examples name (``patches/``, ``scene.tif``, ``runs/unet`` ...). Training is cut to a few steps on small patches. The
comment ``<!-- not executed: REASON -->`` above a block exempts it; its imports must still work. A block marked ``sh``
needs the reader's own files. Every ``zoo`` command there, and in ``console`` and ``text``, is parsed: its options must
exist and fit.
"""

from __future__ import annotations

import ast
import re
import shlex
import shutil
from collections.abc import Iterator
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path

import click
import nbformat
import numpy as np
import pytest
from IPython.core.formatters import DisplayFormatter
from nbclient import NotebookClient
from rasterio.transform import from_origin

from tests.conftest import NIGHTLY
from tests.rasters.geotiffs import write_geotiff
from zoo.cli import build_app, run
from zoo.cli.lazy import LazyCommand

REPOSITORY = Path(__file__).parents[2]
PAGES = [REPOSITORY / "README.md", *sorted((REPOSITORY / "docs").rglob("*.md"))]
FEW_STEPS = ["--steps", "2", "--precision", "fp32", "--crop", "32", "--batch-size", "4", "--no-speed"]
"""Appended to commands that train."""
NARROW = "[4, 4, 4, 4, 4]"
"""Widths of the U-Net instead of the default."""
FEW_OPTIONS = f"steps=2, precision='fp32', crop=32, batch_size=4, options={{'widths': {NARROW}}}, overwrite=True"
"""Instead of the steps of ``zoo.train``."""
SKIPPED = ("pip install", "make ", "python benchmarks", "ray ", "#")


@dataclass(frozen=True)
class Block:
    """A block of code of a page."""

    page: Path
    line: int
    language: str
    code: str
    executed: bool

    @property
    def commands(self) -> list[str]:
        """Return the commands of a block, with continued lines joined and comments removed."""
        joined = re.sub(r"\\\n\s*", " ", self.code)
        lines = [re.sub(r"\s{2,}#.*$", "", line).removeprefix("$ ").strip() for line in joined.splitlines()]
        return [line for line in lines if line and not line.startswith(SKIPPED)]


def blocks(page: Path, languages: tuple[str, ...]) -> Iterator[Block]:
    """Yield the fenced blocks of a page in one of these languages; ``""`` is none."""
    text = page.read_text(encoding="utf-8")
    for found in re.finditer(r"^```(\w*)\n(.*?)^```", text, re.MULTILINE | re.DOTALL):
        if found[1] in languages:
            before = text[: found.start()].rstrip().rpartition("\n")[2]
            executed = found[1] in ("bash", "python") and not before.startswith("<!-- not executed: ")
            yield Block(page, text[: found.start()].count("\n") + 1, found[1], found[2], executed)


def name(page: Path) -> str:
    return str(page.relative_to(REPOSITORY))


def command_of(words: list[str]) -> tuple[click.Command, list[str]]:
    """Return the command that ``zoo`` words name, and its arguments."""
    app: click.Command = build_app()
    while isinstance(app, click.Group):
        found = app.get_command(click.Context(app), words[0])
        assert found is not None, f"there is no command {words[0]!r}"
        app, words = (found.load() if isinstance(found, LazyCommand) else found), words[1:]
    return app, words


COMMANDS = [
    (block, command)
    for page in PAGES
    for block in blocks(page, ("", "sh", "text", "bash", "console"))
    for command in block.commands
    if re.match(r"zoo [a-z]", command) and "..." not in command and "|" not in command
]


@pytest.mark.parametrize(
    ("block", "command"), COMMANDS, ids=[f"{name(block.page)}:{block.line}: {command}" for block, command in COMMANDS]
)
def test_commands_have_the_options_that_pages_use(block: Block, command: str) -> None:
    words = shlex.split(command.partition(" && ")[0].partition(" > ")[0])[1:]
    target, arguments = command_of(words)
    context = click.Context(target, info_name=words[0], resilient_parsing=True)
    target.parse_args(context, list(arguments))
    known = {option for parameter in target.params for option in (*parameter.opts, *parameter.secondary_opts)}
    for word in arguments:
        if re.match(r"--[a-z]", word):
            assert word.partition("=")[0] in known, f"{name(block.page)}:{block.line}: {word} is not an option"


@pytest.fixture
def workplace(tmp_path: Path, patches: Path, trained_bundle: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Return a folder with the files that the examples name, and make it the working directory."""
    shutil.copytree(patches, tmp_path / "patches")
    shutil.copytree(trained_bundle, tmp_path / "runs" / "unet")
    rng = np.random.default_rng(0)
    scene, place = rng.normal(size=(3, 80, 96)).astype(np.float32), from_origin(400_000, 3_800_000, 10, 10)
    write_geotiff(tmp_path / "scene.tif", scene, names=[(f"band_{band}", "") for band in (1, 2, 3)], transform=place)
    shutil.copytree(REPOSITORY / "benchmarks", tmp_path / "benchmarks", ignore=shutil.ignore_patterns("*_150", "new_*"))
    monkeypatch.chdir(tmp_path)
    return tmp_path


PYTHON = [block for page in PAGES for block in blocks(page, ("python",))]


@pytest.mark.parametrize("block", PYTHON, ids=[f"{name(block.page)}:{block.line}" for block in PYTHON])
def test_examples_import_what_exists(block: Block) -> None:
    for node in ast.walk(ast.parse(block.code)):
        if isinstance(node, ast.ImportFrom) and (node.module or "").partition(".")[0] == "zoo":
            module = import_module(node.module or "")
            for imported in node.names:
                assert hasattr(module, imported.name), f"{node.module} has no {imported.name}"


EXECUTED = [page for page in PAGES if any(block.executed for block in blocks(page, ("bash", "python")))]


@pytest.mark.slow
@pytest.mark.parametrize("page", EXECUTED, ids=name)
@pytest.mark.usefixtures("workplace")
def test_a_page_runs_from_top_to_bottom(page: Path, capsys: pytest.CaptureFixture[str]) -> None:
    namespace: dict[str, object] = {"__name__": "page"}
    for block in blocks(page, ("bash", "python")):
        where = f"{name(page)}:{block.line}"
        if not block.executed:
            continue
        if block.language == "python":
            code = re.sub(r"\bsteps=\d+", FEW_OPTIONS, block.code)
            exec(compile(code, where, "exec"), namespace)
            continue
        for command in block.commands:
            words = shlex.split(command)
            assert words[0] == "zoo", f"{where}: {command}"
            arguments = words[1:]
            if arguments[0] in ("train", "bench") and "--dry-run" not in arguments:
                arguments = drop(arguments, "--steps") + FEW_STEPS
                if "--data" not in arguments and "--config" not in arguments:
                    arguments += ["--data", "patches", "--group-column", "scene"]
                if arguments[:2] == ["train", "unet"]:
                    arguments += ["--option", f"widths={NARROW}"]
                if arguments[0] == "train" and Path(arguments[arguments.index("--out") + 1]).exists():
                    shutil.rmtree(arguments[arguments.index("--out") + 1])
            code = run(arguments)
            expected = (0, 1) if arguments[0] == "audit" else (0,)
            assert code in expected, f"{where}: {command}\n{capsys.readouterr().err}"


def drop(arguments: list[str], option: str) -> list[str]:
    """Return the arguments without an option and its value."""
    if option not in arguments:
        return arguments
    place = arguments.index(option)
    return arguments[:place] + arguments[place + 2 :]


def run_cells(cells: list[str]) -> None:
    """Run cells one after another, and format the value of each last expression as Jupyter does."""
    namespace: dict[str, object] = {"__name__": "notebook"}
    for cell in cells:
        tree = ast.parse(cell)
        last = tree.body.pop() if isinstance(tree.body[-1], ast.Expr) else None
        exec(compile(tree, "notebook", "exec"), namespace)
        if isinstance(last, ast.Expr):
            DisplayFormatter().format(eval(compile(ast.Expression(last.value), "notebook", "eval"), namespace))


@pytest.mark.slow
def test_the_notebook_runs_with_few_steps(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """By night in Jupyter's own process, otherwise in this one, which has imported the libraries."""
    notebook = nbformat.read(REPOSITORY / "docs" / "tutorials" / "patches_to_map.ipynb", as_version=4)
    code = [cell for cell in notebook.cells if cell.cell_type == "code"]
    assert sum(1 for cell in code for line in cell.source.splitlines() if line.strip()) <= 25
    assert all(cell.outputs for cell in code if not cell.source.endswith("band.unit)")), "it is committed executed"
    for cell in code:
        cell.source = cell.source.replace("steps=60", "steps=2, data_options={'scenes': 3}")
        cell.source = cell.source.replace('audit("synthetic"', 'audit("synthetic", data_options={"scenes": 3}')
        cell.source = cell.source.replace('"synthetic", "test"', '"synthetic", "test", scenes=3')
    if NIGHTLY:
        NotebookClient(notebook, timeout=600, resources={"metadata": {"path": str(tmp_path)}}).execute()
    else:
        monkeypatch.chdir(tmp_path)
        run_cells([cell.source for cell in code])
    assert (tmp_path / "prob.tif").is_file()
    assert (tmp_path / "slides.gpkg").is_file()
