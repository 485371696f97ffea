"""The specs of the built-in data sets say what their classes take."""

from __future__ import annotations

import inspect

import pytest

from zoo.datasets.builtin import SYNTHETIC, zoo_register_datasets
from zoo.errors import ConfigError, UnknownNameError, ZooError
from zoo.physics.bands import PAPER_CHANNELS
from zoo.registry import create_dataset

COMMON = {"self", "root", "split", "transforms", "progress"}


def parameters(spec):
    found = inspect.signature(spec.resolve().__init__).parameters
    return {name: parameter.default for name, parameter in found.items() if name not in COMMON}


def registered():
    found = []
    zoo_register_datasets(found.append)
    return found


@pytest.mark.parametrize("spec", registered(), ids=lambda spec: spec.name)
def test_options_are_the_arguments_of_the_class(spec):
    expected = parameters(spec)
    declared = {option.name: option.default for option in spec.options}
    assert declared == expected
    assert all(option.help for option in spec.options)


@pytest.mark.parametrize("spec", registered(), ids=lambda spec: spec.name)
def test_the_class_has_the_licence_and_the_citation_of_its_entry(spec):
    assert spec.resolve().citation == spec.citation or spec.name == "folder"
    assert spec.resolve().licence == spec.licence or spec.name == "folder"


PUBLISHED = [spec for spec in registered() if spec.name not in ("synthetic", "folder")]


@pytest.mark.parametrize("spec", PUBLISHED, ids=lambda spec: spec.name)
def test_a_direct_call_refuses_bad_options_with_a_clear_message(spec, tmp_path):
    dataset = spec.resolve()
    for option in spec.options:
        if option.choices or option.annotation in (int, bool, float):
            with pytest.raises(ConfigError, match=rf"option {option.name}: .* is not valid\. (Choose one of|Give) "):
                dataset(tmp_path, **{option.name: [object()]})
    for split in ("all", None, 3, ["train"]):
        with pytest.raises(UnknownNameError, match="unknown split"):
            dataset(tmp_path, split)
    # Text is converted, as a command line gives it: the call gets as far as the missing files.
    for option in spec.options:
        with pytest.raises(ZooError) as caught:
            dataset(tmp_path, **{option.name: str(option.default)})
        assert not str(caught.value).startswith("option "), caught.value


def test_all_are_registered():
    names = [spec.name for spec in registered()]
    assert names == ["synthetic", "folder", "landslide4sense", "sen12landslides", "hrgldd", "cas", "bijie"]
    assert SYNTHETIC.channels == tuple(band.name for band in PAPER_CHANNELS)
    assert all(spec.licence and spec.citation for spec in registered())


def test_folder_is_made_by_name(disk, tmp_path):
    root = disk.write_folder(tmp_path, *disk.make_patches(10))
    assert len(create_dataset("folder", "test", root=root, split_by="random")) == 2
    with pytest.raises(UnknownNameError, match=r"unknown option 'group_colum'.*Did you mean 'group_column'"):
        create_dataset("folder", root=root, group_colum="scene")
