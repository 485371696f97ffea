"""Typed JSON: one strict reader and one writer for all JSON files of zoo.

The layout of a file is a frozen dataclass. :func:`read_json` decodes a file into it and checks every type;
:func:`write_json` writes it. Arrays, paths and enumerations are converted here, so the dataclasses need no
``to_dict`` and no ``from_dict``. Unknown fields are ignored, so an older version can read a newer file. A missing
field without a default is an error.
"""

from __future__ import annotations

import json
import math
import os
import re
import tomllib
from copy import deepcopy
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeAlias, TypeVar, cast, get_args

import msgspec

from zoo.errors import ConfigError, ResultError, ZooError
from zoo.files import write_text_atomic

T = TypeVar("T")
JsonValue: TypeAlias = "bool | int | float | str | list[JsonValue] | dict[str, JsonValue] | None"

LIMIT_BYTES = 256 * 2**20
"""Maximum size in bytes of a JSON file that is read; a result file of 10,000 patches has 8 MB."""

MAX_KEYS = 1000
"""Maximum number of dictionary entries that are searched for the damaged one, to name its key."""

if TYPE_CHECKING:
    Number: TypeAlias = float
else:
    Number = float | str
    """A float field that may be NaN or infinite. JSON has neither, so they are written as ``"nan"``, ``"inf"`` and
    ``"-inf"``. A dataclass with such a field calls :func:`restore_numbers` in ``__post_init__``."""


def restore_numbers(instance: object, *names: str) -> None:
    """Convert the strings in the :data:`Number` fields of a frozen dataclass to floats.

    Raises:
        ValueError: if a string is not ``"nan"``, ``"inf"`` or ``"-inf"``.
    """
    for name in names:
        value: object = getattr(instance, name)
        if isinstance(value, str):
            if value not in ("nan", "inf", "-inf"):
                raise ValueError(f"{name} is {value!r}, expected a number")
            object.__setattr__(instance, name, float(value))


def read_json(
    path: str | os.PathLike[str],
    kind: type[T],
    *,
    what: str = "file",
    hint: str | None = None,
    error: type[ZooError] = ResultError,
) -> T:
    """Read a JSON file as a typed value.

    Args:
        path: the file.
        kind: type of the value, usually a dataclass.
        what: description of the expected file, for messages: ``"bundle"``, ``"result file"``.
        hint: what the user should do when the file is damaged.
        error: type of the error for a damaged file.

    Raises:
        FileNotFoundError: if the file does not exist; the caller decides what that means.
        ZooError: if the file cannot be read, is larger than :data:`LIMIT_BYTES`, is not valid JSON, or a field is
            missing or of another type. The message names the field.
    """
    path = Path(path)
    try:
        size = path.stat().st_size
        if size > LIMIT_BYTES:
            raise error(f"is too large for a {what} ({size / 2**20:.0f} MiB)", where=path, hint=hint)
        content = path.read_bytes()
    except (FileNotFoundError, NotADirectoryError) as reason:
        raise FileNotFoundError(str(path)) from reason
    except OSError as reason:
        raise ZooError(f"cannot be read ({reason.strerror})", where=path) from reason
    return decode_json(content, kind, what=what, where=path, hint=hint, error=error)


def read_toml(path: str | os.PathLike[str], *, hint: str | None = None) -> dict[str, Any]:
    """Read a TOML file that a person wrote.

    Args:
        path: the file.
        hint: what the user should do when the file is damaged.

    Raises:
        FileNotFoundError: if the file does not exist; the caller decides what that means.
        ConfigError: if the file cannot be read or is not valid TOML.
    """
    path = Path(path)
    try:
        return tomllib.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise
    except OSError as error:
        raise ConfigError(f"cannot be read ({(error.strerror or str(error)).lower()})", where=path) from error
    except (ValueError, RecursionError) as error:
        # ValueError: invalid TOML or UTF-8, or an integer with thousands of digits.
        reason = "nested too deeply" if isinstance(error, RecursionError) else str(error)
        raise ConfigError(f"is not valid TOML ({reason})", where=path, hint=hint) from error


def decode_json(
    content: bytes | str,
    kind: type[T],
    *,
    what: str = "file",
    where: object = None,
    hint: str | None = None,
    error: type[ZooError] = ResultError,
) -> T:
    """Decode JSON text as a typed value; see :func:`read_json`.

    Raises:
        ZooError: of type ``error``, if the text is not valid JSON or does not fit ``kind``.
    """
    try:
        return msgspec.json.decode(content, type=kind, dec_hook=_decode_special)
    except msgspec.ValidationError as reason:
        try:
            value = msgspec.json.decode(content)
        except (msgspec.DecodeError, RecursionError, UnicodeError):
            value = None  # the JSON is also damaged after the field that does not fit
        raise error(f"not a valid {what}: {_describe(reason, value, kind)}", where=where, hint=hint) from reason
    except ZooError as reason:
        raise error(f"not a valid {what}: {reason.problem}", where=where, hint=hint or reason.hint) from reason
    except (msgspec.DecodeError, RecursionError, UnicodeError) as reason:
        raise error("not valid JSON; was the file truncated?", where=where, hint=hint) from reason


def from_plain(
    value: object,
    kind: type[T],
    *,
    what: str = "value",
    where: object = None,
    hint: str | None = None,
    error: type[ZooError] = ResultError,
) -> T:
    """Check and convert plain values, such as those of a TOML file or a TIFF tag, to ``kind``; see :func:`read_json`.

    Raises:
        ZooError: of type ``error``, if the value does not fit ``kind``.
    """
    try:
        return msgspec.convert(value, kind, dec_hook=_decode_special)
    except msgspec.ValidationError as reason:
        raise error(f"not a valid {what}: {_describe(reason, value, kind)}", where=where, hint=hint) from reason
    except ZooError as reason:
        raise error(f"not a valid {what}: {reason.problem}", where=where, hint=hint or reason.hint) from reason
    except RecursionError as reason:
        raise error(f"not a valid {what}: nested too deeply", where=where, hint=hint) from reason


def to_plain(value: object) -> Any:
    """Convert a typed value to plain JSON values; numbers that JSON cannot represent become strings."""
    return _finite(msgspec.to_builtins(value, enc_hook=_encode_special))


def encode_json(value: object, *, indent: int | None = None) -> str:
    """Encode a typed value as JSON text."""
    return json.dumps(to_plain(value), indent=indent, ensure_ascii=False, allow_nan=False)


def write_json(path: str | os.PathLike[str], value: object) -> None:
    """Write a typed value as indented JSON, atomically.

    Raises:
        ZooError: if the file cannot be written.
    """
    write_text_atomic(path, encode_json(value, indent=2) + "\n")


def _describe(reason: msgspec.ValidationError, value: object, kind: Any) -> str:
    """Rewrite msgspec's message: the field first, then what is wrong with it."""
    text = str(reason)
    found = re.fullmatch(r"(.*?)(?: - at (`key` in )?`\$\.?(.*)`)?", text, re.DOTALL)
    problem, in_key, place = (text, "", "") if found is None else (found[1], found[2], found[3] or "")
    problem = problem.replace("`", "")
    problem = ("a key: " if in_key else "") + problem[:1].lower() + problem[1:]
    if "[...]" in place:
        place = _with_keys(place, value, kind, text)
    return f"field {place!r}: {problem}" if place else problem


def _with_keys(place: str, value: object, kind: Any, complaint: str) -> str:
    """Replace ``[...]``, msgspec's placeholder for the entry of a dictionary, with the key of the entry.

    The entry is found by trial: decoding it without the others still gives the error.
    """
    value = deepcopy(value)
    holder: Any = value
    shown = ""
    try:
        for part in re.findall(r"\[\.\.\.\]|\[\d+\]|[^.\[\]]+", place):
            if part == "[...]":
                entries = dict(holder)
                for key in list(entries)[:MAX_KEYS]:
                    holder.clear()
                    holder[key] = entries[key]
                    if _value_problem(value, kind) == complaint:
                        break
                else:
                    return place
                shown, holder = f"{shown}[{key!r}]", holder[key]
            elif part.startswith("["):
                shown, holder = shown + part, holder[int(part[1:-1])]
            else:
                shown, holder = f"{shown}.{part}" if shown else part, holder[part]
    except (TypeError, KeyError, IndexError, AttributeError, ValueError):
        return place
    return shown


def _value_problem(value: object, kind: Any) -> str:
    try:
        msgspec.convert(value, kind, str_keys=True, dec_hook=_decode_special)
    except (msgspec.ValidationError, ZooError) as reason:
        return str(reason)
    return ""


def _decode_special(kind: Any, value: object) -> object:
    import numpy as np

    dtype = _array_dtype(kind)
    if dtype is None:
        if isinstance(kind, type) and issubclass(kind, Path) and isinstance(value, str):
            return kind(value)
        raise TypeError(f"{kind} cannot be decoded")
    if not isinstance(value, list):
        raise ValueError(f"Expected `array`, got `{type(value).__name__}`")
    try:
        found = np.asarray(value) if value else np.zeros(0, dtype)
    except ValueError:
        raise ValueError("rows of an array differ in length") from None
    if found.dtype.kind not in {"i": "iu", "u": "iu", "b": "b"}.get(dtype.kind, "iuf"):
        raise ValueError(f"Expected `array of {dtype}`, got `array of {found.dtype}`")
    if dtype.kind in "iu" and found.size:
        bounds = np.iinfo(dtype)
        if int(found.min()) < bounds.min or int(found.max()) > bounds.max:
            raise ValueError(f"a number does not fit into {dtype}")
    return found.astype(dtype)


def _array_dtype(kind: Any) -> Any:
    """Return the dtype of ``NDArray[...]``; ``None`` for another type."""
    import numpy as np

    if kind is np.ndarray:
        return np.dtype(np.float64)
    if getattr(kind, "__origin__", None) is not np.ndarray:
        return None
    return np.dtype(get_args(get_args(kind)[1])[0])


def _encode_special(value: object) -> object:
    if hasattr(value, "tolist"):
        return cast(Any, value).tolist()
    if isinstance(value, os.PathLike):
        return os.fspath(value)
    raise TypeError(f"{type(value).__name__} cannot be written as JSON")


def _finite(value: Any) -> Any:
    if isinstance(value, float) and not math.isfinite(value):
        return "nan" if math.isnan(value) else "inf" if value > 0 else "-inf"
    if isinstance(value, dict):
        return {str(key): _finite(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [_finite(item) for item in value]
    return value
