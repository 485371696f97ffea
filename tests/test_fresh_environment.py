"""Test the promises about fresh environments in fresh environments."""

from __future__ import annotations

import json
from importlib.metadata import PackageNotFoundError, distribution
from pathlib import Path

import pytest
from packaging.requirements import Requirement

from tests.conftest import REPOSITORY, Environment

pytestmark = [pytest.mark.slow, pytest.mark.fresh]


def requirements_of(name: str, found: set[str]) -> set[str]:
    """``name`` and all that it needs, without extras."""
    if name in found:
        return found
    try:
        needs = distribution(name).requires or []
    except PackageNotFoundError:
        return found
    found.add(name)
    for need in map(Requirement, needs):
        if need.marker is None or need.marker.evaluate({"extra": ""}):
            requirements_of(need.name.lower().replace("_", "-"), found)
            for extra in need.extras:
                for inner in map(Requirement, distribution(need.name).requires or []):
                    if inner.marker is not None and inner.marker.evaluate({"extra": extra}):
                        requirements_of(inner.name.lower().replace("_", "-"), found)
    return found


def link(name: str, site: Path) -> None:
    """Link the files of an installed distribution: what a download of gigabytes would put there."""
    here = distribution(name)
    tops = {Path(file).parts[0] for file in here.files or [] if not Path(file).is_absolute()}
    for top in sorted(tops - {"..", "__pycache__"}):
        source = Path(str(here.locate_file(top)))
        if source.exists() and not (site / top).exists():
            (site / top).symlink_to(source)


def test_blocks_need_torch_alone(tmp_path: Path) -> None:
    environment = Environment(tmp_path / "env")
    for name in requirements_of("torch", set()):
        link(name, environment.site)
    environment.install(REPOSITORY)
    code = """
import importlib.util, torch
from zoo.blocks import MCSA
assert MCSA(64)(torch.randn(2, 64, 8, 8)).shape == (2, 64, 8, 8)
print([name for name in ("numpy", "pluggy", "click", "rich", "timm", "lightning") if importlib.util.find_spec(name)])
"""
    done = environment.run("python", "-W", "ignore", "-c", code, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert done.stdout == "[]\n"


@pytest.mark.nightly
def test_the_example_plugin_is_benched_beside_unet_and_a_broken_one_stops_nothing(
    tmp_path: Path, patches: Path
) -> None:
    environment = Environment(tmp_path / "env")
    environment.see_packages_outside()
    broken = tmp_path / "zoo-broken"
    broken.mkdir()
    (broken / "zoo_broken.py").write_text("raise RuntimeError('broken at import')\n")
    (broken / "pyproject.toml").write_text(
        '[build-system]\nrequires = ["hatchling"]\nbuild-backend = "hatchling.build"\n'
        '[project]\nname = "zoo-broken"\nversion = "1"\n[project.entry-points.zoo]\nbroken = "zoo_broken"\n'
        '[tool.hatch.build.targets.wheel]\ninclude = ["zoo_broken.py"]\n'
    )
    environment.install(REPOSITORY / "plugins" / "zoo-example", broken)

    plugins = environment.run("python", "-m", "zoo", "plugins", "--json", cwd=tmp_path)
    reports = {report["name"]: report for report in json.loads(plugins.stdout)}
    assert reports["zoo-example"]["provides"] == {
        "models": ["tiny_fcn"],
        "exporters": ["torchscript"],
        "report_sections": ["economy"],
    }
    assert reports["zoo-broken"]["status"] == "failed"
    assert "broken at import" in reports["zoo-broken"]["error"]

    line = "bench --models unet,tiny_fcn --group-column scene --steps 2 --crop 32 --batch-size 4 --json rows.json"
    done = environment.run("python", "-m", "zoo", *line.split(), "--no-speed", "--data", str(patches), cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    rows = {row["model"]: row for row in json.loads((tmp_path / "rows.json").read_text())}
    assert {name: row["status"] for name, row in rows.items()} == {"unet": "ok", "tiny_fcn": "ok"}
    assert rows["tiny_fcn"]["parameters"] < rows["unet"]["parameters"]

    test_file = REPOSITORY / "plugins" / "zoo-example" / "tests" / "test_contract.py"
    contract = environment.run("python", "-m", "pytest", "-q", "-p", "no:cacheprovider", str(test_file), cwd=tmp_path)
    assert contract.returncode == 0, contract.stdout
