"""Errors say what, where and what to do, and survive the way between processes."""

import pickle

from zoo.errors import DataError, UnknownNameError, ZooError, first_line, suggestion


def test_error_reads_as_where_what_hint() -> None:
    assert str(DataError("was it cut short?", hint="Delete it")) == "was it cut short? Delete it"
    error = DataError("is truncated", where="a.png", hint="Copy it again")
    assert str(error) == "a.png: is truncated. Copy it again"
    assert str(ZooError("no data")) == "no data"


def test_the_first_line_of_an_error() -> None:
    assert first_line(ValueError("\n  bad number\nat row 3")) == "bad number"
    assert first_line(KeyError()) == "KeyError"
    assert len(first_line(OSError("x" * 999))) == 200


def test_errors_survive_pickling() -> None:
    for error in (DataError("p", where="w", hint="h"), UnknownNameError("model", "unett", ["unet"])):
        back = pickle.loads(pickle.dumps(error))
        assert type(back) is type(error)
        assert (str(back), back.where, back.hint) == (str(error), error.where, error.hint)


def test_suggestion_ignores_case() -> None:
    assert suggestion("UNet", ["unet", "folder"]) == "Did you mean 'unet'?"
    assert suggestion("xyz", ["b", "a"]) == "There are: a, b"
    assert suggestion("xyz", []) == "There are none"
    assert "and 5 more" in suggestion("xyz", [f"m{i:02}" for i in range(25)])


def test_a_message_repeats_only_the_beginning_of_what_no_person_wrote() -> None:
    error = UnknownNameError("model", "9" * 5000, ["unet"])
    assert len(str(error)) < 300
    assert "999... (5,0" in error.problem
    path = "/".join(["a folder of a long name"] * 40)
    assert str(DataError(f"{path} is missing")) == f"{path} is missing"
