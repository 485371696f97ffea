"""The model card of a bundle: metadata of the hub, figures, pictures, and the check that it is about its bundle."""

from __future__ import annotations

import json
import re
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml
from PIL import Image

import zoo
from zoo.cli import run
from zoo.errors import ConfigError, ResultError
from zoo.evaluation.counts import Counts
from zoo.evaluation.quality import MeasuredSplit
from zoo.training.bundle import Bundle, TrainerNotes
from zoo.training.pictures import typical_patches, worst_patches
from zoo.weights.card import check_card, render_card

BOMB = "[&a0 [x]" + "".join(f", &a{n} [{f'*a{n - 1}, ' * 9}*a{n - 1}]" for n in range(1, 12)) + "]"
"""Lists of lists whose text has ten to the eleventh letters."""
NOTES = """
name = "unet/ellipses"
summary = "Finds ellipses."
tried = "A wider network: Dice 0.01 higher, four times the size."
limits = ["It knows ellipses | alone."]
licence = "Apache-2.0"
data_licence = "CC-BY-4.0"
data_citation = "Someone (2022)"
"""


@pytest.fixture
def bundle(trained_bundle: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(trained_bundle, tmp_path / "bundle"))


def front_matter(text: str) -> dict[str, Any]:
    found = re.match(r"\A---\n(.*?)\n---\n", text, re.DOTALL)
    assert found is not None
    values = yaml.safe_load(found[1])
    assert isinstance(values, dict)
    return values


def test_a_card_holds_the_fields_of_the_hub(
    bundle: Path, patches: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "notes.toml").write_text(NOTES)
    line = ["card", str(bundle), "--data", str(patches), "--group-column", "scene", "--device", "cpu"]
    assert run([*line, "--notes", str(tmp_path / "notes.toml")]) == 0
    told = capsys.readouterr()
    assert told.out.startswith("model: test Dice 0.")
    text = (bundle / "README.md").read_text(encoding="utf-8")
    head = front_matter(text)
    assert head["license"] == "apache-2.0"
    assert head["library_name"] == "landslide-zoo"
    assert head["pipeline_tag"] == "image-segmentation"
    assert {"landslide", "unet"} <= set(head["tags"])
    assert head["datasets"] == ["patches"]
    assert head["metrics"] == ["dice", "iou", "precision", "recall"]
    saved = Bundle.load(bundle)
    assert head["landslide_zoo"]["bands"] == [f"{band.name} [{band.unit}]" for band in saved.bands]
    assert head["landslide_zoo"]["weights_sha256"] == saved.weights_sha256
    whole = saved.evaluations[0]
    assert whole.dice is not None
    assert head["model-index"][0]["results"][0]["metrics"][0] == {"type": "dice", "value": round(whole.dice, 4)}
    assert saved.notes == TrainerNotes(
        name="unet/ellipses",
        summary="Finds ellipses.",
        tried="A wider network: Dice 0.01 higher, four times the size.",
        limits=("It knows ellipses | alone.",),
        licence="Apache-2.0",
    )
    assert whole.dice_interval is not None
    for expected in (
        "# unet/ellipses",
        "zoo map unet/ellipses scene.tif",
        f"{whole.dice:.3f} | {whole.dice_interval[0]:.3f} to {whole.dice_interval[1]:.3f}",
        "Licence of the data: CC-BY-4.0",
        "Someone (2022)",
        "A wider network",
        "- It knows ellipses | alone.",
        "expected calibration error is 0.",
        "The temperature that was fitted",
        *(f"| {split} | `{digest}` |" for split, digest in saved.data.fingerprints.items()),
    ):
        assert expected in text, expected
    assert str(patches.parent) not in text
    for name in ("worst.png", "typical.png", "reliability.png"):
        assert f"(card/{name})" in text
        with Image.open(bundle / "card" / name) as picture:
            assert min(picture.size) > 250
            assert np.asarray(picture.convert("L")).std() > 5
    check_card(bundle)
    assert zoo.load(bundle, device="cpu").card.splitlines()[-1] == text.splitlines()[-1]


def test_a_card_without_data_states_what_is_missing(bundle: Path) -> None:
    content = json.loads((bundle / "bundle.json").read_text())
    del content["evaluations"]
    content["metrics"] = {}
    (bundle / "bundle.json").write_text(json.dumps(content))
    path = zoo.load(bundle, device="cpu").write_card()
    text = path.read_text(encoding="utf-8")
    for expected in ("quality of this model was not measured", "No figures were recorded", "calibration was not"):
        assert expected in text
    assert "No pictures were made" in text
    assert not (bundle / "card").exists()
    assert front_matter(text)["license"] == "other"


def test_a_poor_model_and_a_demo_are_called_so(bundle: Path) -> None:
    loaded = Bundle.load(bundle)
    poor = replace(loaded, label="demo", evaluations=(MeasuredSplit(dice=0.03, precision=0.02),))
    text = render_card(poor)
    assert "**Warning:** this model is poor" in text
    assert "**demo**" in text
    assert "demo" in front_matter(text)["tags"]


@pytest.mark.parametrize(
    ("old", "new", "reason"),
    [
        ("- band_2 [", "- nir [", r"names the bands .*nir.*, but bundle.json .*band_2"),
        ("weights_sha256: ", "weights_sha256: f", "weights with the sha256 f"),
        ("pixel_size: null", "pixel_size: 30", "a pixel size of 30, but bundle.json none"),
        ("license: ", "license: [", "is not YAML"),
        ("pixel_size: null", f"pixel_size: {'9' * 4000}", "pixel_size"),
        ("pixel_size: null", f"pixel_size: null\n  x: {'y' * 70_000}", "front matter is too large"),
        ("  bands:\n", f"  bands: {BOMB}\n  other:\n", r"bands\[0\].*expected str"),
        ("landslide_zoo:\n", "landslide_zoo: 3\nother:\n", "not a valid model card"),
    ],
)
def test_a_card_of_another_bundle_is_refused(bundle: Path, old: str, new: str, reason: str) -> None:
    path = zoo.load(bundle, device="cpu").write_card()
    text = path.read_text(encoding="utf-8")
    assert text.count(old) == 1
    path.write_text(text.replace(old, new), encoding="utf-8")
    with pytest.raises(ResultError, match=reason):
        check_card(bundle)
    with pytest.raises(ResultError, match=reason):
        zoo.load(bundle, device="cpu")


@pytest.mark.parametrize("text", ["# My own notes\n", "---\ntitle: notes\n---\n", "---\n- a list\n---\n", ""])
def test_another_readme_passes(bundle: Path, text: str) -> None:
    (bundle / "README.md").write_text(text)
    check_card(bundle)


def test_a_readme_that_is_not_text_is_refused(bundle: Path) -> None:
    (bundle / "README.md").write_bytes(b"---\n\xff\xfe\n---\n")
    with pytest.raises(ResultError, match="cannot be read"):
        check_card(bundle)


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        ("tried = ", "is not valid TOML"),
        pytest.param("tried = " + "[" * 5000, "nested too deeply", id="nested"),
        pytest.param("tried = " + "9" * 5000, "is not valid TOML", id="digits"),
        ("tryed = 'x'", "unknown field 'tryed'"),
        ("limits = 'none'", "field 'limits'"),
        (None, "there is no such file"),
    ],
)
def test_notes_with_a_mistake_are_refused(bundle: Path, tmp_path: Path, content: str | None, reason: str) -> None:
    if content is not None:
        (tmp_path / "notes.toml").write_text(content)
    with pytest.raises(ConfigError, match=reason):
        zoo.load(bundle, device="cpu").write_card(notes=tmp_path / "notes.toml")
    assert not (bundle / "README.md").exists()


def test_a_card_belongs_to_the_weights_beside_it(bundle: Path, tmp_path: Path) -> None:
    model = zoo.load(bundle, device="cpu")
    with pytest.raises(ResultError, match="does not hold the weights"):
        model.write_card(tmp_path / "elsewhere")
    unsaved = zoo.TrainedModel(model.bundle, device="cpu")
    with pytest.raises(ConfigError, match="not saved"):
        unsaved.write_card()


def test_the_worst_and_the_typical_patches() -> None:
    counts = Counts(*(np.array(cell) for cell in ([9, 5, 1, 0], [0, 5, 9, 3], [1, 5, 9, 0], [90, 85, 81, 97])))
    assert worst_patches(counts, 2) == [2, 1]
    assert worst_patches(counts, 9) == [2, 1, 3, 0]
    assert typical_patches(counts, 1) == [1]
    nothing = Counts(*(np.zeros(2, np.int64) for _ in range(4)))
    assert worst_patches(nothing, 3) == []
    assert typical_patches(nothing, 3) == []
