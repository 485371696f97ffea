"""Specs are frozen, checked and cheap."""

import dataclasses
from pathlib import Path

import pytest

from zoo.errors import ConfigError, PluginError, UnknownNameError
from zoo.registry import Flag, ModelSpec, check_options


def spec(**changes: object) -> ModelSpec:
    values: dict[str, object] = {"name": "tiny", "target": "json:loads", "summary": "s"}
    return ModelSpec(**{**values, **changes})  # type: ignore[arg-type]


def test_specs_are_frozen() -> None:
    with pytest.raises(dataclasses.FrozenInstanceError):
        spec().name = "other"  # type: ignore[misc]


@pytest.mark.parametrize("name", ["", "U-Net", "a b", "-a", "a//b", "/a", "a/b/c"])
def test_bad_names_are_refused(name: str) -> None:
    with pytest.raises(PluginError, match="not a valid name for a model"):
        spec(name=name)


@pytest.mark.parametrize("target", ["", "json", "json:", ":loads", "a b:c"])
def test_bad_targets_are_refused(target: str) -> None:
    with pytest.raises(PluginError, match=r"package\.module:attribute"):
        spec(target=target)


def test_targets_are_resolved_late_and_errors_name_the_model() -> None:
    assert spec(target="json:loads").resolve()("1") == 1
    assert spec(target="json:JSONDecoder.decode").resolve()
    with pytest.raises(PluginError, match="'tiny' cannot be imported"):
        spec(target="no_such_module:x").resolve()
    with pytest.raises(PluginError, match="has no 'lods'"):
        spec(target="json:lods").resolve()
    with pytest.raises(PluginError, match="not callable"):
        spec(target="json:__name__").resolve()


def test_a_target_that_fails_at_import_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(str(tmp_path))
    for name, code in (("divides", "1 / 0"), ("exits", "raise SystemExit(3)")):
        (tmp_path / f"zoo_{name}.py").write_text(code)
        with pytest.raises(PluginError, match=rf"zoo_{name}:x: model 'tiny' cannot be imported \((Zero|SystemExit: 3)"):
            spec(target=f"zoo_{name}:x").resolve()


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"parameters": 1.5}, "parameters of model 'tiny' must be an integer or none, not 1.5"),
        ({"gmac": "1"}, "gmac of model 'tiny' must be a number or none"),
        ({"paper": None}, "paper of model 'tiny' must be text"),
        ({"encoder_weights": "imagenet"}, "encoder_weights of model 'tiny' must be a list of names"),
        ({"minimum_size": 0}, "minimum_size must be a positive integer, not 0"),
    ],
)
def test_fields_of_another_type_are_refused(changes: dict[str, object], words: str) -> None:
    with pytest.raises(PluginError, match=words):
        spec(**changes)


def test_options_are_checked_against_the_target() -> None:
    unet = ModelSpec(name="unet", target="zoo.models.unet:UNet", summary="s")
    assert check_options(unet, {"mode": "split", "widths": [3, 4]}) == {"mode": "split", "widths": [3, 4]}
    assert check_options(unet, {"widths": "(8, 16)", "reduction": "8"}) == {"widths": (8, 16), "reduction": 8}
    with pytest.raises(UnknownNameError, match="Did you mean 'mode'"):
        check_options(unet, {"mod": "split"})
    with pytest.raises(UnknownNameError, match="unknown option 'in_channels'"):
        check_options(unet, {"in_channels": 3})
    with pytest.raises(ConfigError, match="Choose one of 'shared', 'split', 'partial', 'separate'"):
        check_options(unet, {"mode": "c"})
    with pytest.raises(ConfigError, match=r"option 'widths' cannot be 3.*Give a list of integers"):
        check_options(unet, {"widths": 3})


def test_a_spec_is_plain_json() -> None:
    values = spec(flags=frozenset({Flag.NEEDS_RAIN, "exportable"})).to_dict()
    assert values["flags"] == ["exportable", "needs_rain"]


def test_unknown_flags_are_refused() -> None:
    with pytest.raises(UnknownNameError, match=r"unknown flag 'exportible'. Did you mean 'exportable'"):
        spec(flags=frozenset({"exportible"}))


@pytest.mark.parametrize("field", ["name", "target", "summary"])
def test_texts_are_required(field: str) -> None:
    with pytest.raises(PluginError, match=f"{field} of model .* must be text, not None"):
        spec(**{field: None})
