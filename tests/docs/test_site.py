"""The documentation site builds without a warning, and needs no network to read."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from click.testing import CliRunner
from mkdocs.__main__ import cli

from zoo.registry import catalogue

REPOSITORY = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("site")
    arguments = ["build", "--strict", "--config-file", str(REPOSITORY / "mkdocs.yml")]
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("NO_MKDOCS_2_WARNING", "1")
        patch.chdir(REPOSITORY)
        done = CliRunner().invoke(cli, [*arguments, "--site-dir", str(folder)])
    assert done.exit_code == 0, done.output
    return folder


@pytest.mark.slow
def test_every_model_and_data_set_has_a_page(site: Path) -> None:
    models, datasets = catalogue().models, catalogue().datasets
    for name in [one for one in models if models.provider(one).startswith("landslide-zoo")]:
        assert "Source of each design choice" in (site / "models" / f"{name}.html").read_text(encoding="utf-8")
    for name in [one for one in datasets if datasets.provider(one).startswith("landslide-zoo")]:
        assert (site / "datasets" / f"{name}.html").is_file()


@pytest.mark.slow
def test_the_help_texts_are_those_of_the_commands(site: Path) -> None:
    text = (site / "reference" / "cli.html").read_text(encoding="utf-8")
    for command in ("zoo bench", "zoo map", "zoo risk compare"):
        assert f">{command}" in text


@pytest.mark.slow
def test_no_page_loads_anything_from_the_network(site: Path) -> None:
    for page in site.rglob("*.html"):
        loads = re.findall(r"<(?:script|link|img|iframe)[^>]*(?:src|href)=[\"']?(https?://[^\"' >]+)", page.read_text())
        assert not [address for address in loads if "canonical" not in address], page.name
