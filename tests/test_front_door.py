"""The public names of the package resolve on first use."""

from __future__ import annotations

import subprocess
import sys
import typing

import zoo


def test_every_public_name_resolves_and_has_a_docstring() -> None:
    for name in zoo.__all__:
        value = getattr(zoo, name)
        assert name == "__version__" or value.__doc__


def test_packages_are_attributes() -> None:
    program = "import zoo; print(zoo.blocks.MCSA.__name__, zoo.physics.Band.__name__, 'torch' in dir(zoo))"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)
    assert done.stdout == "MCSA Band False\n", done.stderr


def test_the_lists_import_no_torch() -> None:
    program = (
        "import sys, zoo; print(zoo.list_losses('f*'), zoo.list_metrics('dice'), len(zoo.list_plugins()) > 3,"
        " zoo.list_datasets('syn*'), 'torch' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)
    assert done.stdout == "['focal'] ['dice'] True ['synthetic'] False\n", done.stderr


def test_names_for_type_checkers_are_those_of_the_package() -> None:
    assert set(zoo._HOMES) | {"__version__"} == set(zoo.__all__)
    assert typing.get_type_hints(zoo.create_loss, localns={"Tensor": object}) is not None
