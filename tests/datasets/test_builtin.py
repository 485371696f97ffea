"""The specs of the built-in data sets say what their classes take."""

from __future__ import annotations

import inspect

import pytest

from zoo.datasets.builtin import SYNTHETIC, zoo_register_datasets
from zoo.errors import UnknownNameError
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
