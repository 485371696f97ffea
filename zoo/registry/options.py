"""Options of models, data sets and losses, read from the code that accepts them.

An option is defined once, as a keyword argument of the target. Its default and its type come from the signature,
its choices from a ``Literal`` annotation, and its help from the ``Args:`` section of the docstring::

    class Focal(nn.Module):
        '''Focal loss.

        Args:
            ignore_index: mask value of pixels that are ignored.
            gamma: how fast the weight of easy pixels decreases.
        '''

        def __init__(self, ignore_index: int = 255, gamma: float = 2.0) -> None: ...

A function that passes on ``**options`` declares the target with :func:`forwards_options`; a class whose ``__init__``
takes ``**options`` passes them to its base class.
"""

from __future__ import annotations

import ast
import functools
import inspect
import numbers
import os
import re
from collections.abc import Callable, Collection, Iterator, Mapping
from dataclasses import dataclass
from enum import Enum
from types import NoneType, UnionType
from typing import Annotated, Any, Literal, TypeVar, Union, get_args, get_origin

Function = TypeVar("Function", bound=Callable[..., Any])

_FORWARDS = "__zoo_forwards_options__"
_WORDS = {"true": True, "yes": True, "on": True, "false": False, "no": False, "off": False, "none": None, "null": None}
_MAX_TEXT_LENGTH = 10_000
_NAMES = {bool: "true or false", int: "an integer", float: "a number", str: "text", NoneType: "none"}
_PLURALS = {int: "integers", float: "numbers", str: "names", bool: "truth values"}


@dataclass(frozen=True, slots=True)
class Option:
    """One option of a model, data set or loss.

    Attributes:
        name: name of the keyword argument.
        default: value that is used if the option is not given; ``...`` if it is required.
        help: description of the option.
        choices: values of a ``Literal`` annotation; empty if any value of the type is accepted.
        annotation: type of the value; ``Any`` if it is unknown.
    """

    name: str
    default: object
    help: str = ""
    choices: tuple[object, ...] = ()
    annotation: Any = Any

    @property
    def kind(self) -> str:
        """The type in words, such as ``an integer or none``."""
        return describe(self.annotation)

    def convert(self, value: object) -> Any:
        """Return ``value`` converted to the type of the option; a string, as from a command line, is parsed.

        Raises:
            ValueError: if the value does not fit; the message states what is accepted.
        """
        return convert(value, self.annotation)


def forwards_options(target: Callable[..., Any]) -> Callable[[Function], Function]:
    """Declare that the decorated function passes its ``**options`` on to ``target``.

    The options of ``target`` then count as options of the function; a keyword of the function itself takes precedence.
    """

    def decorate(function: Function) -> Function:
        setattr(function, _FORWARDS, target)
        return function

    return decorate


def options_of(target: Callable[..., Any], fixed: Collection[str] = ()) -> tuple[Option, ...]:
    """Return the options of a class or function, in the order of its signature.

    Args:
        target: the class or function.
        fixed: arguments that zoo passes and that are not options.
    """
    found: dict[str, Option] = {}
    for function, docstrings, values in _layers(target):
        helps = [parse_arguments(text) for text in docstrings]
        for parameter in _parameters(function):
            name = parameter.name
            if parameter.kind in _VARIADIC or parameter.kind is parameter.POSITIONAL_ONLY or name in (*fixed, "self"):
                continue
            text = next((help[name] for help in helps if name in help), "")
            annotation = _annotation(function, parameter)
            default = values.get(name, ... if parameter.default is parameter.empty else parameter.default)
            if name not in found:
                found[name] = Option(name, default, text, choices_of(annotation), annotation)
            elif not found[name].help:
                own = found[name]
                found[name] = Option(name, own.default, text, own.choices, own.annotation)
    return tuple(found.values())


def accepts_argument(target: Callable[..., Any], name: str) -> bool:
    """Return whether a class or function takes a keyword argument of this name."""
    return accepts_any_argument(target) or any(option.name == name for option in options_of(target))


def accepts_any_argument(target: Callable[..., Any]) -> bool:
    """Return whether a class or function takes keyword arguments of any name, without declaring their target."""
    last: Callable[..., Any] | None = None
    for function, _, _ in _layers(target):
        last = function
    if last is None:
        return True
    return any(parameter.kind is parameter.VAR_KEYWORD for parameter in _parameters(last))


def parse_arguments(docstring: str | None) -> dict[str, str]:
    """Return the descriptions in the ``Args:`` section of a Google-style docstring, by argument."""
    lines = inspect.cleandoc(docstring or "").splitlines()
    try:
        start = next(number for number, line in enumerate(lines) if line.strip() in ("Args:", "Arguments:"))
    except StopIteration:
        return {}
    section = []
    for line in lines[start + 1 :]:
        if line.strip() and not line.startswith(" "):
            break
        section.append(line)
    found: dict[str, list[str]] = {}
    current: list[str] = []
    for line in inspect.cleandoc("\n".join(["", *section])).splitlines():
        entry = re.match(r"([*\w, ]+?)(?: \([^)]*\))?:(?: +(.*))?$", line)
        if entry and not line.startswith(" "):
            current = [entry.group(2) or ""]
            for name in entry.group(1).split(","):
                found[name.strip().lstrip("*")] = current
        else:
            current.append(line.strip())
    return {name: _plain_text(" ".join(part for part in parts if part)) for name, parts in found.items()}


def choices_of(annotation: Any) -> tuple[object, ...]:
    """Return the values that a ``Literal`` or enumeration, possibly optional, allows; empty for other types."""
    members = list(_members(annotation))
    choices: list[object] = []
    for member in members:
        if get_origin(member) is Literal:
            choices += get_args(member)
        elif isinstance(member, type) and issubclass(member, Enum):
            choices += [one.value for one in member]
        elif member is NoneType:
            choices.insert(0, None)
        else:
            return ()
    return () if choices == [None] else tuple(choices)


def convert(value: object, annotation: Any) -> Any:
    """Return ``value`` converted to the type ``annotation``.

    A value of the type is returned unchanged. A string is parsed if the type is not a string: ``8``, ``(8, 16)``,
    ``8,16``, ``true``, ``none``. A number becomes a string if the type is a string.

    Raises:
        ValueError: if the value does not fit; the message states what is accepted.
    """
    for candidate in (value, *_readings(value)):
        try:
            return _accept(candidate, annotation)
        except _TypeMismatchError:
            continue
    choices = choices_of(annotation)
    if choices:
        raise ValueError("Choose one of " + ", ".join(repr(choice) for choice in choices))
    raise ValueError(f"Give {describe(annotation)}")


def matches_type(value: object, annotation: Any) -> bool:
    """Return whether a value is of the type ``annotation``; strings are not parsed."""
    try:
        _accept(value, annotation)
    except _TypeMismatchError:
        return False
    return True


def describe(annotation: Any) -> str:
    """Return a description of a type, such as ``an integer`` or ``a list of numbers or none``."""
    words: list[str] = []
    for member in _members(annotation):
        origin, arguments = get_origin(member), get_args(member)
        if member in _NAMES:
            word = _NAMES[member]
        elif origin is Literal:
            word = " or ".join(repr(argument) for argument in arguments)
        elif isinstance(origin, type) and issubclass(origin, Mapping):
            word = "a table"
        elif isinstance(origin, type) and issubclass(origin, Collection):
            word = "a list of " + _plural_names(next((argument for argument in arguments if argument is not ...), Any))
        elif isinstance(origin or member, type) and issubclass(origin or member, os.PathLike):
            word = "a path"
        elif isinstance(member, type) and issubclass(member, Enum):
            word = " or ".join(repr(one.value) for one in member)
        else:
            word = getattr(member, "__name__", "a value") if member is not Any else "a value"
        if word not in words:
            words.append(word)
    return " or ".join(words)


_VARIADIC = (inspect.Parameter.VAR_KEYWORD, inspect.Parameter.VAR_POSITIONAL)


class _TypeMismatchError(Exception):
    """A value is not of a type."""


def _layers(target: Callable[..., Any]) -> Iterator[tuple[Callable[..., Any], list[str | None], Mapping[str, object]]]:
    """Yield the functions that an option may reach, outermost first, with their docstrings and fixed values."""
    values: dict[str, object] = {}
    seen: list[object] = []
    following: Callable[..., Any] | None = target
    while following is not None and following not in seen:
        current = following
        seen.append(current)
        following = None
        while isinstance(current, functools.partial):
            values = {**current.keywords, **values}
            current = current.func
        if isinstance(current, type):
            for owner in inspect.getmro(current):
                function = vars(owner).get("__init__")
                if function is None or owner is object:
                    continue
                bases = inspect.getmro(owner)[:-1]
                yield function, [function.__doc__, *(base.__doc__ for base in bases)], values
                following = getattr(function, _FORWARDS, None)
                passes_on = any(parameter.kind is parameter.VAR_KEYWORD for parameter in _parameters(function))
                if following is not None or not passes_on:
                    break
        else:
            yield current, [getattr(current, "__doc__", None)], values
            following = getattr(current, _FORWARDS, None)


def _parameters(function: Callable[..., Any]) -> list[inspect.Parameter]:
    try:
        return list(inspect.signature(function).parameters.values())
    except (TypeError, ValueError):
        return []


def _annotation(function: Callable[..., Any], parameter: inspect.Parameter) -> Any:
    annotation = parameter.annotation
    if annotation is parameter.empty:
        return Any
    if not isinstance(annotation, str):
        return annotation
    try:
        return eval(annotation, getattr(inspect.unwrap(function), "__globals__", {}))
    except Exception:  # a name imported only for type checkers, or a type unknown to this Python version
        return Any


def _members(annotation: Any) -> Iterator[Any]:
    """Yield the members of a union, or the type itself if it is not a union."""
    if get_origin(annotation) is Annotated:
        annotation = get_args(annotation)[0]
    if get_origin(annotation) in (Union, UnionType):
        for member in get_args(annotation):
            yield from _members(member)
    else:
        yield NoneType if annotation is None else annotation


def _plural_names(annotation: Any) -> str:
    choices = choices_of(annotation)
    if choices:
        return ", ".join(repr(choice) for choice in choices)
    names = [_PLURALS.get(member, "values") for member in _members(annotation)]
    return " or ".join(dict.fromkeys(names))


def _readings(value: object) -> Iterator[object]:
    """Yield the possible values of a string other than the string itself, the likeliest first."""
    if isinstance(value, (int, float)) and not isinstance(value, bool):
        yield str(value)
    if not isinstance(value, str) or len(value) > _MAX_TEXT_LENGTH:
        return
    text = value.strip()
    if text.casefold() in _WORDS:
        yield _WORDS[text.casefold()]
    yield _literal(text)
    if text.casefold().lstrip("+-") in ("nan", "inf"):
        yield float(text)
    if text[:1] + text[-1:] in ("()", "[]"):
        text = text[1:-1]
    parts = [part.strip() for part in text.split(",") if part.strip()]
    if parts:
        yield tuple(_literal(part) for part in parts)
        yield tuple(part.strip("'\"") for part in parts)


def _literal(text: str) -> object:
    try:
        return ast.literal_eval(text)
    except (ValueError, SyntaxError, MemoryError, RecursionError, TypeError):
        return text


def _accept(value: object, annotation: Any) -> Any:
    """Return the value as a member of the type without parsing strings, or raise :class:`_TypeMismatchError`."""
    members = list(_members(annotation))
    if len(members) > 1:
        for member in members:
            try:
                return _accept(value, member)
            except _TypeMismatchError:
                continue
        raise _TypeMismatchError
    (kind,) = members
    origin, arguments = get_origin(kind), get_args(kind)
    if kind is Any or kind is object:
        return value
    if origin is Literal:
        return _matching_choice(value, arguments)
    if kind is bool:
        return _require(value, isinstance(value, bool))
    if kind is int:
        return _require(value, isinstance(value, numbers.Integral) and not isinstance(value, bool))
    if kind is float:
        return _require(value, isinstance(value, numbers.Real) and not isinstance(value, bool))
    sort = origin or kind
    if not isinstance(sort, type):
        return value
    if sort is str or sort is NoneType:
        return _require(value, isinstance(value, sort))
    if issubclass(sort, os.PathLike):
        return _require(value, isinstance(value, (str, os.PathLike)))
    if issubclass(sort, Enum):
        return _matching_choice(value.value if isinstance(value, Enum) else value, tuple(one.value for one in sort))
    if issubclass(sort, Mapping):
        return _accept_mapping(value, arguments)
    if issubclass(sort, Collection):
        return _accept_sequence(value, sort, arguments)
    try:
        return _require(value, isinstance(value, sort))
    except TypeError:  # a protocol that cannot be checked at run time
        return value


def _accept_sequence(value: object, sort: type, arguments: tuple[Any, ...]) -> Any:
    if hasattr(value, "tolist"):
        value = value.tolist()
    _require(value, isinstance(value, (list, tuple, set, frozenset)))
    items = list(value)  # type: ignore[call-overload]
    fixed = sort is tuple and arguments and arguments[-1] is not ...
    if fixed and len(items) != len(arguments):
        raise _TypeMismatchError
    kinds = arguments if fixed else [arguments[0] if arguments else Any] * len(items)
    accepted = [_accept(item, kind) for item, kind in zip(items, kinds, strict=True)]
    if sort is tuple or isinstance(value, tuple):
        return tuple(accepted)
    return type(value)(accepted)  # type: ignore[call-arg]


def _accept_mapping(value: object, arguments: tuple[Any, ...]) -> Any:
    _require(value, isinstance(value, Mapping))
    assert isinstance(value, Mapping)
    if len(arguments) != 2:
        return value
    # JSON and TOML have only string keys, so a key is parsed if the type is not a string.
    return {_accept_key(key, arguments[0]): _accept(item, arguments[1]) for key, item in value.items()}


def _accept_key(key: object, kind: Any) -> Any:
    try:
        return convert(key, kind)
    except ValueError:
        raise _TypeMismatchError from None


def _matching_choice(value: object, choices: tuple[Any, ...]) -> Any:
    """Return the choice that equals the value; ``True`` does not equal 1."""
    for choice in choices:
        if choice == value and isinstance(choice, bool) == isinstance(value, bool):
            return choice
    raise _TypeMismatchError


def _require(value: object, condition: bool) -> Any:
    if not condition:
        raise _TypeMismatchError
    return value


def _plain_text(text: str) -> str:
    """Return a description without Sphinx markup, as one sentence."""
    text = re.sub(r":\w+:`~?(?:[\w.]*\.)?(\w+)`", r"\1", text).replace("``", "")
    text = text[:1].upper() + text[1:]
    return text if not text or text.endswith((".", "?", "!")) else text + "."
