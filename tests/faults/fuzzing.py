"""Damaged files for every reader: each is used or refused in words, and nothing else happens.

A corpus of small files comes from real writers and from past faults (:mod:`tests.faults.past`), which are read as they
are first. The mutator changes bytes, tokens and structure; a seed decides how. :func:`fuzz` runs in a copy of the warm
process of :mod:`tests.faults.launcher`, so that a hang or a segmentation fault ends that copy alone.
"""

from __future__ import annotations

import json
import random
import re
import shutil
import signal
import sys
import traceback
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

HANG_S = 20
USED, REFUSED = "used-", "refused-"
"""Names of past faults begin with what has to become of them; the rest of the corpus only must not crash."""
NUMBERS = (
    *(b"0", b"-1", b"1", b"2", b"1e308", b"-1e308", b"1e999", b"nan", b"NaN", b"Infinity", b"65536", b"2147483648"),
    *(b"9" * 19, b"9" * 5000, b"1e-320", b"0.1", b"true", b"null", b'"x"', b"[]", b"{}", b"[[[[]]]]"),
)
WORDS = (
    *(b"", b"x" * 300, b"../../etc/passwd", b"/dev/zero", b"http://127.0.0.1:9/x", b"imagenet", b"\x1b[2J", b"=1+1"),
    *("café".encode(), b"\xff\xfe", b"\x00", b"None", b"folder", b"a,b", b"<script>", b"%s%n", b"{0.__class__}"),
)
TOKEN = re.compile(rb'-?\d+(?:\.\d+)?(?:[eE][+-]?\d+)?|"[^"\n]{0,200}"|>[^<>\n]{1,200}<')
TEXTS = {".json", ".toml", ".csv", ".xml", ".geojson", ".vrt", ".txt", ""}
DEEP = (b"[" * 100_000, b'{"a":' * 50_000, b"<a>" * 50_000)


def mutate(data: bytes, rng: random.Random, *, text: bool, others: list[bytes]) -> bytes:
    """Return a damaged copy of a file's bytes, by one to four changes."""
    changed = bytearray(data)
    for _ in range(rng.choice((1, 1, 1, 2, 4))):
        kinds = (
            (_token, _token, _lines, _deep) if text and rng.random() < 0.7 else (_flip, _number, _cut, _move, _splice)
        )
        rng.choice(kinds)(changed, rng, others)
    return bytes(changed)


def _place(data: bytearray, rng: random.Random) -> int:
    # Headers and footers hold what decides; pixels seldom matter.
    where = rng.random()
    size = max(1, len(data))
    if where < 0.5:
        return rng.randrange(min(size, 512))
    return rng.randrange(size) if where < 0.8 else max(0, size - 1 - rng.randrange(min(size, 512)))


def _flip(data: bytearray, rng: random.Random, others: list[bytes]) -> None:
    for _ in range(rng.choice((1, 2, 8))):
        if data:
            data[_place(data, rng)] ^= 1 << rng.randrange(8)


def _number(data: bytearray, rng: random.Random, others: list[bytes]) -> None:
    size = rng.choice((1, 2, 4, 8))
    value = rng.choice((0, 1, 2**7, 2**15 - 1, 2**16 - 1, 2**31 - 1, 2**31, 2**32 - 1, 2**63, 2**64 - 1))
    at = _place(data, rng)
    data[at : at + size] = (value % 2 ** (8 * size)).to_bytes(size, rng.choice(("little", "big")))


def _cut(data: bytearray, rng: random.Random, others: list[bytes]) -> None:
    at = _place(data, rng)
    if rng.random() < 0.5:
        del data[at:]
    else:
        del data[at : at + rng.choice((1, 4, 64, 1000))]


def _move(data: bytearray, rng: random.Random, others: list[bytes]) -> None:
    at, length = _place(data, rng), rng.choice((1, 4, 64, 1000))
    part = bytes(data[at : at + length])
    to = _place(data, rng)
    data[to:to] = part * rng.choice((1, 1, 3)) if rng.random() < 0.7 else bytes(length)


def _splice(data: bytearray, rng: random.Random, others: list[bytes]) -> None:
    other = rng.choice(others)
    at = _place(data, rng)
    data[at:] = other[rng.randrange(max(1, len(other))) :][: 1 << 20]


def _token(data: bytearray, rng: random.Random, others: list[bytes]) -> None:
    tokens = list(TOKEN.finditer(bytes(data)))
    if not tokens:
        return
    found = rng.choice(tokens)
    if found.group()[:1] in (b'"', b">"):
        word = rng.choice(WORDS + NUMBERS)
        new = found.group()[:1] + word + found.group()[-1:] if rng.random() < 0.7 else rng.choice(NUMBERS)
    else:
        new = rng.choice(NUMBERS)
    data[found.start() : found.end()] = new


def _lines(data: bytearray, rng: random.Random, others: list[bytes]) -> None:
    lines = bytes(data).splitlines(keepends=True)
    if not lines:
        return
    at = rng.randrange(len(lines))
    kind = rng.randrange(4)
    if kind == 0:
        del lines[at]
    elif kind == 1:
        lines.insert(at, lines[rng.randrange(len(lines))])
    elif kind == 2:
        rng.shuffle(lines)
    else:
        lines[at] = lines[at].replace(rng.choice((b",", b"=", b":", b'"', b"<", b"[")), rng.choice((b"", b";", b"\t")))
    data[:] = b"".join(lines)


def _deep(data: bytearray, rng: random.Random, others: list[bytes]) -> None:
    if rng.random() < 0.05:
        data[_place(data, rng) :] = rng.choice(DEEP)
    else:
        _token(data, rng, others)


# Readers, each by the name of its corpus folder


def _result(path: Path, root: Path) -> None:
    from zoo.bench.results import TrialResult

    result = TrialResult.load(path)
    from zoo.api.results import read_results

    read_results(root)
    assert result.config


def _benchmark(path: Path, root: Path) -> None:
    from zoo.bench.benchmark import load_benchmark

    assert load_benchmark(path).recipe


def _bundle(path: Path, root: Path) -> None:
    from zoo.training.bundle import Bundle

    assert Bundle.load(root).predictor()


def _weights(path: Path, root: Path) -> None:
    from zoo.risk.index import RiskIndex

    assert RiskIndex.load(path).to_json()


def _table(path: Path, root: Path) -> None:
    from zoo.risk.tables import read_table

    assert len(read_table(path, "presence", coords=None if path.suffix == ".geojson" else ("x", "y")).labels)


def _patch(path: Path, root: Path) -> None:
    from zoo.datasets.folder.decoding import read_file

    for role in ("image", "mask"):
        read_file(path, role=role)


def _raster(path: Path, root: Path) -> None:
    from zoo.rasters.reading import read_raster

    assert read_raster(path).image.ndim == 3


def _netcdf(path: Path, root: Path) -> None:
    from zoo.datasets.sen12landslides import read_header

    read_header(path)
    _raster(path, root)


def _vectors(path: Path, root: Path) -> None:
    from rasterio.crs import CRS

    from zoo.rasters.inventory import read_inventory

    read_inventory(path, CRS.from_epsg(32643), (600_000, 3_799_000, 601_000, 3_800_000), buffer=5)


def _safe(path: Path, root: Path) -> None:
    from zoo.rasters.safe import open_safe

    open_safe(root)


def _stac(path: Path, root: Path) -> None:
    from zoo.rasters.stac import _Catalogue

    _Catalogue(str(root / "catalog.json")).items("s2", (70, 30, 80, 40), ("2020-01-01", "2030-01-01"))


def _archive(path: Path, root: Path) -> None:
    from zoo.datasets.archives import unpack

    into = path.parent / "into"
    try:
        unpack(path, into, max_bytes=10**7)
    finally:
        assert {one.name for one in path.parent.parent.iterdir()} == {path.parent.name}, "written outside"
        shutil.rmtree(into, ignore_errors=True)


def _folder(path: Path, root: Path) -> None:
    from zoo.datasets.folder import Folder

    dataset = Folder(root, group_column="scene", train_groups=["s0"], val_groups=["s1"], test_groups=["s2"])
    assert dataset[0]["image"].shape


def _journal(path: Path, root: Path) -> None:
    from zoo.mapping.journal import Journal
    from zoo.mapping.tiling import Plan

    with Journal(path.parents[1] / "prob.tif", {"a": 1}) as journal:
        shutil.copy(path, journal.folder / path.name)
        plan = Plan((40, 40), 64, 32)
        for _ in journal.finished(plan)[0]:
            journal.load(next(iter(plan.blocks())), "values")
        journal.discard()


def _resume(path: Path, root: Path) -> None:
    from zoo.training.fit import _read_progress

    _read_progress(path)


def _archived_weights(path: Path, root: Path) -> None:
    from zoo.weights.sources import resolve

    assert (resolve(path) / "bundle.json").is_file()


def _card(path: Path, root: Path) -> None:
    from zoo.weights.card import check_card

    check_card(root)


def _notes(path: Path, root: Path) -> None:
    from zoo.api.weights import with_notes
    from zoo.training.bundle import Bundle
    from zoo.weights.card import render_card

    assert render_card(with_notes(Bundle.load(root), root / "notes.toml"))


def _hub(path: Path, root: Path) -> None:
    from types import SimpleNamespace
    from unittest import mock

    from huggingface_hub.hf_api import ModelInfo

    from zoo.weights import hub

    address = hub.HubAddress.parse("hf://owner/repo")
    listing = SimpleNamespace(model_info=lambda *_, **__: ModelInfo(**json.loads(path.read_bytes())))
    with mock.patch.object(hub, "_api", return_value=listing):
        hub._check_listing(address, hub._list(address))


def _plugin(path: Path, root: Path) -> None:
    from zoo.registry.plugins import PluginLoader

    sys.path.insert(0, str(root))
    try:
        loader = PluginLoader(frozenset())
        loader.load()
        assert [str(report) for report in loader.reports]
    finally:
        sys.path.pop(0)


READERS: dict[str, Callable[[Path, Path], None]] = {
    "result": _result,
    "benchmark": _benchmark,
    "bundle": _bundle,
    "weights": _weights,
    "table": _table,
    "patch": _patch,
    "raster": _raster,
    "netcdf": _netcdf,
    "vectors": _vectors,
    "safe": _safe,
    "stac": _stac,
    "archive": _archive,
    "folder": _folder,
    "journal": _journal,
    "resume": _resume,
    "plugin": _plugin,
    "archived weights": _archived_weights,
    "card": _card,
    "notes": _notes,
    "hub": _hub,
}
"""Readers by name. The corpus of each is a folder of cases; a case is one file, or a folder whose files are mutated in
turn while the others stay as they are."""


class HangError(BaseException):
    """A reader did not end in time."""


def _stop(number: int, frame: object) -> None:
    raise HangError


def attempt(reader: str, case: Path, file: Path, content: bytes, scratch: Path) -> str:
    """Let a reader read a case with other bytes in one of its files.

    Args:
        reader: key of :data:`READERS`.
        case: a file, or a folder that is copied.
        file: the file of the case whose bytes are replaced.
        content: the bytes.
        scratch: folder for the copy.

    Returns:
        ``used``, ``refused``, ``hang``, or the place and message of the crash.
    """
    from zoo.errors import ZooError

    place = scratch / reader / "in" / "deeper"
    shutil.rmtree(place.parent, ignore_errors=True)
    place.mkdir(parents=True)
    path = place / case.name
    if case.is_dir():
        shutil.copytree(case, path, symlinks=True)
        path = path / file.relative_to(case)
    path.unlink(missing_ok=True)
    path.write_bytes(content)
    try:
        READERS[reader](path, place / case.name)
    except ZooError as error:
        return "refused" if len(str(error)) <= 2000 else "a message of thousands of letters"
    except HangError:
        return "hang"
    except BaseException as error:
        ours = [one for one in traceback.extract_tb(error.__traceback__) if "/zoo/" in one.filename]
        last = f"{Path(ours[-1].filename).name}:{ours[-1].lineno}" if ours else "?"
        return f"{last} {type(error).__name__}: {str(error)[:100]}"
    return "used"


def cases_in(corpus: Path) -> list[tuple[Path, Path]]:
    """Return the cases of a reader, each with one of the files that are damaged."""
    cases = sorted(path for path in corpus.iterdir() if not path.name.startswith("."))
    return [(case, file) for case in cases for file in ([case] if case.is_file() else sorted(mutable(case)))]


def fuzz(reader: str, corpus: Path, scratch: Path, seed: int, count: int) -> dict[str, Any]:
    """Read the past faults as they are, and then ``count`` damaged files.

    Returns:
        Figures: inputs, used, refused, and for each crash and hang its place, number and message. The input of a crash
        is kept in ``scratch/crashes``.
    """
    warnings.simplefilter("ignore")
    signal.signal(signal.SIGALRM, _stop)
    files = cases_in(corpus)
    contents = {file: file.read_bytes() for _, file in files}
    others = list(contents.values())
    past = [pair for pair in files if pair[0].name.startswith((USED, REFUSED))]
    real = [pair for pair in files if pair not in past]
    figures: dict[str, Any] = {"reader": reader, "inputs": 0, "used": 0, "refused": 0, "crashes": {}, "hangs": []}
    for number in range(-len(past), count):
        rng = random.Random(f"{reader} {seed} {number}")
        # One in fifty stays whole, so that a corpus that is refused for another reason is noticed.
        whole = number < 0 or number % 50 == 0
        # What is refused for one reason hides others, so most changes are made to whole files.
        case, file = past[number] if number < 0 else rng.choice(real if whole or rng.random() < 0.7 else files)
        content = contents[file] if whole else mutate(contents[file], rng, text=file.suffix in TEXTS, others=others)
        signal.setitimer(signal.ITIMER_REAL, HANG_S)
        try:
            outcome = attempt(reader, case, file, content, scratch)
        finally:
            signal.setitimer(signal.ITIMER_REAL, 0)
        if number < 0 and outcome in ("used", "refused") and not case.name.startswith(f"{outcome}-"):
            outcome = f"{case.name} was {outcome}"
        figures["inputs"] += 1
        if outcome in ("used", "refused"):
            figures[outcome] += 1
            continue
        if outcome == "hang":
            figures["hangs"].append(number)
        else:
            figures["crashes"].setdefault(outcome, []).append(number)
        kept = scratch / "crashes" / f"{reader}-{number}-{file.name}"
        kept.parent.mkdir(exist_ok=True)
        kept.write_bytes(content)
    return figures


def mutable(case: Path) -> list[Path]:
    """Return the files of a folder that are damaged: the small ones; a link is not followed."""
    return [path for path in case.rglob("*") if path.is_file() and not path.is_symlink() and "keep" not in path.parts]
