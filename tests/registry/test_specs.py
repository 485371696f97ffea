"""Specs are frozen, checked and cheap."""

import dataclasses

import pytest

from zoo.errors import PluginError, UnknownNameError, ZooError
from zoo.registry import Choice, Flag, ModelSpec, Option, check_options


def spec(**changes: object) -> ModelSpec:
    values: dict[str, object] = {"name": "tiny", "target": "json:loads", "summary": "s"}
    return ModelSpec(**{**values, **changes})  # type: ignore[arg-type]


def test_specs_are_frozen() -> None:
    with pytest.raises(dataclasses.FrozenInstanceError):
        spec().name = "other"  # type: ignore[misc]


@pytest.mark.parametrize("name", ["", "U-Net", "a b", "-a", "a/b"])
def test_bad_names_are_refused(name: str) -> None:
    with pytest.raises(PluginError, match="no name for a model"):
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


def test_options_are_checked_against_the_spec() -> None:
    declared = spec(options=(Option("mode", "a", "h", ("a", "b")), Option("widths", (1, 2), "h")))
    check_options(declared, {"mode": "b", "widths": [3, 4]})
    with pytest.raises(UnknownNameError, match="Did you mean 'mode'"):
        check_options(declared, {"mod": "a"})
    with pytest.raises(ZooError, match="Choose one of 'a', 'b'"):
        check_options(declared, {"mode": "c"})


def test_a_spec_is_plain_json() -> None:
    values = spec(
        flags=frozenset({Flag.NEEDS_RAIN, Flag.EXPORTABLE}), provenance=(Choice("P", "x", "eq. 1"),)
    ).to_dict()
    assert values["flags"] == ["exportable", "needs_rain"]
    assert values["provenance"] == [{"mark": "P", "what": "x", "source": "eq. 1"}]
