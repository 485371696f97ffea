"""Families of models: names without specs, found by name and pattern, isolated like everything of a plugin."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from zoo.bench.config import select_models
from zoo.errors import PluginError, UnknownNameError, ZooError
from zoo.registry import ModelFamilySpec, create_model, list_models, reload
from zoo.registry.catalogue import ModelTable
from zoo.registry.specs import check_options

FAMILY = """
    from zoo.registry import ModelFamilySpec, hookimpl

    @hookimpl
    def zoo_register_models(register):
        register(ModelFamilySpec(
            name="many/net", target="zoo_many:Net", variants="zoo_many:variants", summary="a family", doi="10.1/x"
        ))

    def variants(family):
        return {f"size{n}": {"parameters": n, "flags": ("exportable",)} for n in range(5000)}

    def __getattr__(name):
        if name != "Net":
            raise AttributeError(name)
        from torch import nn

        class Net(nn.Conv2d):
            '''A convolution.

            Args:
                kernel: size of the kernel.
            '''
            def __init__(self, in_channels=7, classes=2, *, variant, kernel: int = 1):
                super().__init__(in_channels, classes, kernel)
                self.variant = variant
        return Net
"""


@pytest.fixture
def many(install: Callable[[str, str], None]) -> Any:
    install("zoo-many", FAMILY)
    reload()
    yield
    reload()


def family(function: str, **fields: Any) -> ModelTable:
    table = ModelTable()
    spec = ModelFamilySpec(name="many/net", target="a:b", variants=f"{__name__}:{function}", summary="s", **fields)
    table.add(spec, "zoo-many")
    return table


def two(name: str) -> dict[str, dict[str, Any]]:
    return {"small": {"minimum_size": 16}, "wrong": {"parametres": 3}}


def fails(name: str) -> dict[str, dict[str, Any]]:
    raise RuntimeError("no table")


def no_mapping(name: str) -> list[str]:
    return ["small"]


@pytest.mark.usefixtures("many")
def test_a_model_of_a_family_is_found_by_its_name() -> None:
    from zoo.registry import catalogue, provider_of

    models = catalogue().models
    assert len(list_models("many/net-size*")) == 5000
    assert "many/net-size7" in models
    assert "many/net-size5000" not in models
    assert "many/net-size7" not in [spec.name for spec in models.match()]
    spec = models.get("many/net-size7")
    assert (spec.parameters, spec.doi, sorted(spec.flags)) == (7, "10.1/x", ["exportable"])
    assert provider_of("model", spec.name).distribution == "zoo-many"
    assert [option.name for option in spec.options] == ["kernel"]
    assert check_options(spec, {"kernel": "3"}) == {"kernel": 3}
    with pytest.raises(UnknownNameError, match="unknown option 'variant'"):
        create_model("many/net-size7", variant="size8")
    model: Any = create_model("many/net-size7", in_channels=3, kernel=3)
    assert (model.variant, model.in_channels, model.kernel_size) == ("size7", 3, (3, 3))
    with pytest.raises(UnknownNameError, match=r"Did you mean 'many/net-size4999'"):
        models.get("many/net-size49999")
    with pytest.raises(UnknownNameError, match="unknown model 'many/net'"):
        models.get("many/net")


@pytest.mark.usefixtures("many")
def test_a_list_shows_what_the_specs_say() -> None:
    from zoo.registry import catalogue

    models = catalogue().models
    names = models.names("*net*")
    specs = [models.get(name) for name in names]
    expected = [(one.name, one.parameters, one.gmac, one.summary, models.provider(one.name)) for one in specs]
    assert list(models.listed(names)) == expected


@pytest.mark.usefixtures("many")
def test_a_benchmark_takes_a_family_only_when_it_is_named() -> None:
    assert not any(name.startswith("many/") for name in select_models("all"))
    assert not any(name.startswith("many/") for name in select_models("*net*"))
    assert select_models("many/net-size12,unet,many/net-size499?")[:3] == [
        "many/net-size12",
        "unet",
        "many/net-size4990",
    ]
    with pytest.raises(ZooError, match="no model matches 'many/x"):
        select_models("many/x*")


def test_a_family_that_cannot_be_listed_stops_no_other_model() -> None:
    table = family("fails")
    with pytest.warns(UserWarning, match="its models cannot be listed"):
        assert table.names() == []
    with pytest.raises(PluginError, match=r"model family 'many/net'.*RuntimeError: no table"):
        table.get("many/net-small")
    with pytest.raises(PluginError, match="returned list, not a mapping"):
        family("no_mapping").get("many/net-small")


def test_a_field_that_a_model_does_not_have_is_named() -> None:
    table = family("two")
    assert table.get("many/net-small").minimum_size == 16
    with pytest.raises(PluginError, match="no field parametres of 'wrong'"):
        table.get("many/net-wrong")


def test_a_family_is_registered_once_and_discarded_with_its_plugin() -> None:
    table = family("two")
    spec = table.families[0][0]
    with pytest.raises(PluginError, match="already registered by zoo-many"):
        table.add(spec, "zoo-other")
    assert table.of("zoo-many") == ["many/net-*"]
    table.discard("zoo-many")
    assert table.families == []
    assert "many/net-small" not in table


def test_a_family_may_hold_everything_of_one_source() -> None:
    table = ModelTable()
    spec = ModelFamilySpec(name="many", separator="/", target="a:b", variants=f"{__name__}:two", summary="s")
    table.add(spec, "zoo-many")
    assert table.names() == ["many/small", "many/wrong"]
    assert table.get("many/small").name == "many/small"
    assert table.of("zoo-many") == ["many/*"]
    table.discard("zoo-many")
    assert table.families == []
