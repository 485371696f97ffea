"""Generate the pages that the code itself knows: one for each model and data set, and the command line's help texts.

mkdocs calls :func:`on_files` before it builds the site (``hooks`` in ``mkdocs.yml``).
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Sequence
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING

import click
from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import File, Files

from zoo.cli import build_app
from zoo.cli.lazy import LazyCommand
from zoo.registry import DatasetSpec, ModelSpec, Option, catalogue

if TYPE_CHECKING:
    from zoo.bench.leaderboard import Row

DOCS = Path(__file__).parent
MARKS = {"P": "paper", "S": "cited source", "O": "ours"}


def on_config(config: MkDocsConfig) -> MkDocsConfig:
    """Replace the folders ``models/`` and ``datasets/`` in the navigation by their pages."""
    pages = {
        "models/": ["models/index.md", *(f"models/{spec.name}.md" for spec in _models())],
        "datasets/": ["datasets/index.md", *(f"datasets/{spec.name}.md" for spec in _datasets())],
    }
    config.nav = [
        {title: pages.get(page, page) if isinstance(page, str) else page for title, page in entry.items()}
        for entry in config.nav or []
    ]
    return config


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """Add the generated pages; a page that exists in ``docs/`` gets the generated facts at its end."""
    for path, text in generated():
        existing = files.get_file_from_path(path)
        if existing is not None:
            text = f"{existing.content_string}\n\n{text.partition(chr(10))[2]}"
            files.remove(existing)
        files.append(File.generated(config, path, content=text))
    return files


def on_page_content(html: str, **_: object) -> str:
    """Show a Sphinx role in a docstring, such as ``:func:`zoo.load```, as plain code."""
    return re.sub(r":(?:attr|class|data|exc|func|meth|mod):(<code>)~?", r"\1", html)


def generated() -> Iterator[tuple[str, str]]:
    """Yield the path and the Markdown text of every generated page."""
    yield "models/index.md", _model_index()
    for spec in _models():
        yield f"models/{spec.name}.md", model_page(spec)
    yield "datasets/index.md", _dataset_index()
    for dataset in _datasets():
        yield f"datasets/{dataset.name}.md", dataset_page(dataset)
    yield "reference/cli.md", cli_page()
    yield "methods/metrics.md", f"\n{_metrics()}\n"
    for notebook in sorted(DOCS.glob("tutorials/*.ipynb")):
        yield f"tutorials/{notebook.stem}.md", notebook_page(notebook)


def notebook_page(path: Path) -> str:
    """Return an executed notebook as Markdown: its text, its code and the outputs that it holds."""
    parts = []
    for cell in json.loads(path.read_text(encoding="utf-8"))["cells"]:
        source = "".join(cell["source"])
        if cell["cell_type"] == "markdown":
            parts.append(source)
            continue
        parts.append(f"```python\n{source}\n```")
        for output in cell["outputs"]:
            data = output.get("data", {"text/plain": output.get("text", "")})
            if "image/png" in data:
                parts.append(f"![output](data:image/png;base64,{''.join(data['image/png']).strip()})")
            elif "text/html" in data:
                parts.append("".join(data["text/html"]))
            else:
                parts.append(f"```text\n{''.join(data['text/plain']).rstrip()}\n```")
    return "\n\n".join(parts) + "\n"


def _models() -> list[ModelSpec]:
    return [spec for spec in catalogue().models.match() if _built_in(catalogue().models.provider(spec.name))]


def _datasets() -> list[DatasetSpec]:
    return [spec for spec in catalogue().datasets.match() if _built_in(catalogue().datasets.provider(spec.name))]


def _built_in(provider: object) -> bool:
    return str(provider).startswith("landslide-zoo")


def _model_index() -> str:
    rows = [
        (f"[{spec.name}]({spec.name}.md)", _millions(spec.parameters), _number(spec.gmac), spec.summary)
        for spec in _models()
    ]
    table = _table(("model", "parameters (M)", "GMAC", "summary"), rows)
    return f"# Models\n\n{table}\n\nParameters and GMAC are for 7 bands, 2 classes and one image of 128 x 128 pixels.\n"


def model_page(spec: ModelSpec) -> str:
    """Return the page of a model: what it is, its options and the source of each choice."""
    facts = [
        ("parameters", f"{spec.parameters:,}" if spec.parameters else "not stated"),
        ("GMAC", f"{_number(spec.gmac)} (one image of 7 x 128 x 128)"),
        ("smallest image", f"{spec.minimum_size} x {spec.minimum_size} pixels"),
        ("can", ", ".join(sorted(spec.flags)) or "nothing declared"),
        ("pretrained encoder", ", ".join(spec.encoder_weights) or "none"),
        ("paper", f"{spec.paper} " + (f"([doi:{spec.doi}](https://doi.org/{spec.doi}))" if spec.doi else "")),
        ("licence of the code", spec.licence),
    ]
    choices = [(MARKS[one.mark], one.what, one.source) for one in spec.provenance]
    example = f'```python\nimport zoo\n\nmodel = zoo.create_model("{spec.name}", in_channels=7, classes=2)\n```'
    about = _table(("property", "value"), facts)
    parts = [f"# {spec.name}", f"{spec.summary}.", example, about, _options(spec.options)]
    if choices:
        parts += ["## Source of each design choice", _table(("source", "choice", "where"), choices)]
    parts += ["## Measured results", _results_of(spec.name)]
    return "\n\n".join(parts) + "\n"


@cache
def _results() -> list[tuple[str, str, Row]]:
    """Return the folder, the recipe and the row of every model in the committed results."""
    from zoo.bench.leaderboard import make_rows
    from zoo.bench.results import group_by_setting, load_results

    return [
        (folder, group[0].config.recipe.name, row)
        for folder in ("synthetic_150", "landslide4sense_quick", "new_scenes")
        for group in group_by_setting(load_results(DOCS.parent / "benchmarks" / "results" / folder)[0])
        for row in make_rows(group)
    ]


def _results_of(name: str) -> str:
    """Return the rows of a model in the committed results."""
    rows = [
        (folder, recipe, row.model, str(row.seeds), _number(row.figures.get("dice")))
        for folder, recipe, row in _results()
        if row.name == name
    ]
    table = _table(("results", "recipe", "row", "seeds", "pooled Dice"), rows)
    return f"{table}\n\nSee [results](../methods/results.md) for intervals, data and what these figures do not show."


def _dataset_index() -> str:
    rows = [
        (f"[{spec.name}]({spec.name}.md)", ", ".join(spec.channels) or "as in the files", spec.summary, spec.licence)
        for spec in _datasets()
    ]
    return f"# Data sets\n\n{_table(('data set', 'channels', 'summary', 'licence'), rows)}\n"


def dataset_page(spec: DatasetSpec) -> str:
    """Return the facts of a data set; they follow the hand-written page of the same name."""
    facts = [
        ("channels", ", ".join(spec.channels) or "as in the files"),
        ("licence", spec.licence or "not stated"),
        ("citation", spec.citation or "not stated"),
        ("source", spec.url or "made on this machine, or your own files"),
    ]
    about = _table(("property", "value"), facts)
    return "\n\n".join([f"# {spec.name}", "## Facts", about, _options(spec.options)]) + "\n"


def _metrics() -> str:
    from zoo.evaluation.columns import COMPARISONS, FIGURES

    rows = [(f"`{one.key}`", one.heading, one.description) for one in (*FIGURES, *COMPARISONS)]
    return _table(("column", "heading", "meaning"), rows)


def _options(options: Sequence[Option]) -> str:
    if not options:
        return "It has no options."
    rows = [(f"`{one.name}`", f"`{one.default!r}`", one.help) for one in options]
    return "## Options\n\n" + _table(("option", "default", "what it changes"), rows)


def cli_page() -> str:
    """Return the help texts of every command."""
    app = build_app()
    parts = ["# Command line", "Every text below is printed by `zoo COMMAND --help`."]
    for name in sorted(app.commands):
        command = app.commands[name]
        parts += list(_help(command.load() if isinstance(command, LazyCommand) else command, f"zoo {name}"))
    return "\n\n".join(parts) + "\n"


def _help(command: click.Command, path: str) -> Iterator[str]:
    context = click.Context(command, info_name=path, max_content_width=100, terminal_width=100)
    yield f"## {path}\n\n```text\n{command.get_help(context)}\n```"
    if isinstance(command, click.Group):
        for name in command.list_commands(context):
            inner = command.get_command(context, name)
            if inner is not None:
                yield from _help(inner.load() if isinstance(inner, LazyCommand) else inner, f"{path} {name}")


def _table(headings: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    lines = ["| " + " | ".join(headings) + " |", "|" + "---|" * len(headings)]
    lines += ["| " + " | ".join(cell.replace("|", "\\|").replace("\n", " ") for cell in row) + " |" for row in rows]
    return "\n".join(lines)


def _millions(count: int | None) -> str:
    return "" if count is None else f"{count / 1e6:.2f}"


def _number(value: float | None) -> str:
    return "" if value is None else f"{value:.3g}" if value >= 1 else f"{value:.3f}"
