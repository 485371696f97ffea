"""Options are read from the signature and docstring of the code that takes them."""

from __future__ import annotations

import functools
from collections.abc import Mapping, Sequence
from enum import Enum
from pathlib import Path
from typing import Any, Literal

import pytest

from zoo.registry.options import (
    accepts_any_argument,
    accepts_argument,
    convert,
    describe,
    forwards_options,
    options_of,
    parse_arguments,
)


class Base:
    """A base class.

    Args:
        depth: number of levels.
            Two or more.
        mode: how.
    """

    def __init__(self, in_channels: int = 7, *, depth: int = 3, mode: Literal["a", "b"] = "a") -> None: ...


class Derived(Base):
    def __init__(self, in_channels: int = 7, *, wide: bool = False, **options: Any) -> None:
        """Make it.

        Args:
            wide: use :class:`~zoo.blocks.MCSA` and ``x``
            options: of the base class.
        """


@forwards_options(Base)
def build(in_channels: int = 7, *, mode: Literal["a", "b"] = "b", **options: Any) -> Base:
    return Base(in_channels, mode=mode, **options)


def anything(root: str, **options: Any) -> None: ...


def test_default_choices_and_help_come_from_the_class() -> None:
    depth, mode = options_of(Base, ("in_channels",))
    assert (depth.name, depth.default, depth.help, depth.kind) == (
        "depth",
        3,
        "Number of levels. Two or more.",
        "an integer",
    )
    assert (mode.choices, mode.default) == (("a", "b"), "a")


def test_options_that_are_passed_on_are_listed() -> None:
    assert [one.name for one in options_of(Derived, ("in_channels",))] == ["wide", "depth", "mode"]
    assert options_of(Derived)[1].help == "Use MCSA and x."
    forwarded = {one.name: one for one in options_of(build, ("in_channels",))}
    assert list(forwarded) == ["mode", "depth"]
    assert forwarded["mode"].default == "b"
    assert forwarded["mode"].help == "How."


def test_a_partial_changes_defaults() -> None:
    options = {one.name: one.default for one in options_of(functools.partial(build, depth=9))}
    assert options == {"in_channels": 7, "mode": "b", "depth": 9}


def test_arguments_of_any_name_are_recognised() -> None:
    assert accepts_any_argument(anything)
    assert not accepts_any_argument(build)
    assert accepts_argument(build, "depth")
    assert not accepts_argument(build, "progress")


def test_docstrings_may_describe_several_arguments_and_types() -> None:
    found = parse_arguments(
        """Do it.

        Args:
            a, b: two numbers: the first
                and the second.
            c (int): a third

        Returns:
            Nothing: at all.
        """
    )
    assert found == {"a": "Two numbers: the first and the second.", "b": found["a"], "c": "A third."}


class Colour(Enum):
    RED = "red"


@pytest.mark.parametrize(
    ("value", "annotation", "expected"),
    [
        ("(8, 16)", Sequence[int], (8, 16)),
        ("[8,16]", Sequence[int], [8, 16]),
        ("8,16", Sequence[int], (8, 16)),
        ([8, 16], Sequence[int], [8, 16]),
        ([8, 16], tuple[int, ...], (8, 16)),
        ("skip,decoder", Sequence[Literal["skip", "decoder"]], ("skip", "decoder")),
        ("('skip',)", Sequence[Literal["skip", "decoder"]], ("skip",)),
        ("S1, S2", Sequence[str], ("S1", "S2")),
        ("1,2", Sequence[str], ("1", "2")),
        ("none", int | None, None),
        ("3", int | None, 3),
        ("3", int | str, "3"),
        (3, str, "3"),
        ("yes", bool, True),
        ("1e-3", float, 0.001),
        ("nan", float | None, pytest.approx(float("nan"), nan_ok=True)),
        (2, float, 2),
        ("16", Literal[8, 16, 32], 16),
        ({"0": 1}, Mapping[int, int], {0: 1}),
        ("red", Colour, "red"),
        ("a.txt", Path, "a.txt"),
        ("anything", Any, "anything"),
    ],
)
def test_values_fit_or_are_parsed(value: object, annotation: Any, expected: object) -> None:
    assert convert(value, annotation) == expected


@pytest.mark.parametrize(
    ("value", "annotation", "hint"),
    [
        ("abc", int, "Give an integer"),
        (True, int, "Give an integer"),
        ("2.5", int | None, "Give an integer or none"),
        (1, Literal[True, False], "Choose one of True, False"),
        ("c", Literal["a", "b"] | None, "Choose one of None, 'a', 'b'"),
        ("x,y", Sequence[float], "Give a list of numbers"),
        ("1" * 5000, int, "Give an integer"),
        ("[" * 9000, Sequence[int], "Give a list of integers"),
        ([1, 2, 3], tuple[int, int], "Give a list of integers"),
    ],
)
def test_values_that_do_not_fit_are_refused(value: object, annotation: Any, hint: str) -> None:
    with pytest.raises(ValueError, match=r"^(Give|Choose)") as caught:
        convert(value, annotation)
    assert str(caught.value) == hint


def test_types_are_described_with_a_clear_message() -> None:
    assert describe(Sequence[float] | str | None) == "a list of numbers or text or none"
    assert describe(Mapping[str, int]) == "a table"
    assert describe(Path) == "a path"
