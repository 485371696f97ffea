"""A bundle whose description is damaged anywhere is used as it is, or refused in words: never a crash or a hang."""

from __future__ import annotations

import copy
import json
import random
from pathlib import Path
from typing import Any

import pytest

import zoo
from tests.conftest import NIGHTLY
from tests.training.bundles import make_bundle
from zoo.errors import ZooError
from zoo.training.adaptation import adapt
from zoo.training.bundle import DESCRIPTION, Bundle

VALUES: tuple[Any, ...] = (
    *(None, True, -1, 0, 3, 0.5, 1e308, -1e308, 1e-308, 10**18, 10**30),
    *("", "nan", "inf", "x" * 300, "../..", "~nobody/x", "imagenet", "\ud83d", "café"),
    *([], {}, [1], [[]], {"a": 1}, ["background"] * 3, [10**9] * 3, [0], [None], {"": None}, [{}]),
)


def places(value: Any, path: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    """Return the path of every value in a JSON document."""
    found = [path] if path else []
    items = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for key, item in items:
        found += places(item, (*path, key))
    return found


def changed(document: Any, path: tuple[Any, ...], value: Any, *, remove: bool) -> Any:
    """Return a copy with one value replaced or removed."""
    document = copy.deepcopy(document)
    holder = document
    for key in path[:-1]:
        holder = holder[key]
    if remove:
        del holder[path[-1]]
    else:
        holder[path[-1]] = value
    return document


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    import torch

    folder = tmp_path_factory.mktemp("bundle")
    images = torch.randn(3, 2, 16, 16) * 5 + 20
    adapt(make_bundle(), [images], scales=(1, 2)).save(folder)
    return folder


def test_a_description_damaged_anywhere_is_refused_or_used(folder: Path) -> None:
    document = json.loads((folder / DESCRIPTION).read_text())
    rng = random.Random(0)
    every = places(document)
    cases = [(path, None, True) for path in every]
    cases += [(path, value, False) for path in every for value in rng.sample(VALUES, 4 if NIGHTLY else 1)]
    refused = used = 0
    for path, value, remove in cases:
        text = json.dumps(changed(document, path, value, remove=remove))
        (folder / DESCRIPTION).write_text(text, encoding="utf-8", errors="surrogatepass")
        try:
            bundle = Bundle.load(folder)
            model = zoo.TrainedModel(bundle, device="cpu")
            assert model.card
            assert model._repr_html_()
            assert repr(model)
            assert model.predictor
            used += 1
        except ZooError:
            refused += 1
    assert refused > 100
    assert used > 100
