"""The checks of data sets, losses and metrics pass on the built-in ones and find what is broken."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from zoo.errors import ConfigError
from zoo.registry import ReportSectionSpec, catalogue, list_losses, list_metrics, reload
from zoo.testing import contract_of, run_spec_checks

BROKEN = """
    from zoo.registry import DatasetSpec, LossSpec, MetricSpec, RiskModelSpec, hookimpl

    @hookimpl
    def zoo_register_losses(register):
        for name in ("vector_loss", "counting_loss", "dividing_loss", "no_loss"):
            register(LossSpec(name=name, target=f"zoo_broken:{name}", summary="s"))

    @hookimpl
    def zoo_register_metrics(register):
        for name in ("scalar_metric", "changing_metric", "infinite_metric", "exiting_metric"):
            register(MetricSpec(name=name, target=f"zoo_broken:{name}", summary="s"))

    def vector_loss(ignore_index=255):
        import torch
        return lambda logits, mask: torch.nn.functional.cross_entropy(logits, mask.clamp(max=1), reduction="none")

    def counting_loss(ignore_index=255, *, silent=1.0):
        return lambda logits, mask: logits.square().mean()

    def dividing_loss(ignore_index=255):
        import torch
        return torch.nn.CrossEntropyLoss(ignore_index=ignore_index)

    def no_loss(ignore_index=255):
        return None

    @hookimpl
    def zoo_register_datasets(register):
        for name in ("Plain", "Transposed", "Halves", "Texts", "Tuples", "Lost", "Deaf"):
            register(DatasetSpec(name=name.lower(), target=f"zoo_broken_data:{name}", summary="s"))

    def exiting_metric(tp, fp, fn, tn):
        raise SystemExit(4)

    def scalar_metric(tp, fp, fn, tn):
        return 0.5

    def changing_metric(tp, fp, fn, tn):
        tp += 1
        return tp / (tp + fp)

    @hookimpl
    def zoo_register_risk_models(register):
        for name in ("constant_risk", "forgetful_risk", "crowded_risk"):
            title = name.split("_")[0].title()
            register(RiskModelSpec(name=name, title=title, target=f"zoo_broken:{title}", summary="s"))

    class Constant:
        def __init__(self, rain=None, seed=0):
            pass
        def fit(self, X, y, inner=None):
            return self
        def predict_proba(self, X):
            import numpy as np
            return np.full((len(X), 2), 0.5)

    class Forgetful(Constant):
        def fit(self, X, y, inner=None):
            X["slope"] = 0.0
        def predict_proba(self, X):
            return super().predict_proba(X)[:, 1]

    class Crowded(Constant):
        def predict_proba(self, X):
            import numpy as np
            score = X["slope"].rank(pct=True).to_numpy()
            return np.stack([1 - score, score], axis=1)

    def infinite_metric(tp, fp, fn, tn):
        import numpy as np
        with np.errstate(all="ignore"):
            return (tp + 1) / fp
"""


BROKEN_DATA = """
import numpy as np
from zoo.datasets import Patch, PatchDataset
from zoo.physics import Band

class Plain(PatchDataset):
    def __init__(self, root=None, split="train", transforms=None):
        self.split, self.transforms = split, transforms
        self.bands = (Band("red", "1"), Band("nir", "1"))
        self.patches = tuple(Patch(f"{split}{number}", group=split) for number in range(3))
    def read(self, index):
        image = np.zeros((2, 16, 16), np.float32)
        return image, image[0].astype(np.uint8)

class Transposed(Plain):
    def read(self, index):
        image, mask = super().read(index)
        return image.transpose(1, 2, 0), mask

class Halves(Plain):
    def read(self, index):
        image, mask = super().read(index)
        return image, mask + 0.5

class Texts(Plain):
    def __init__(self, root=None, split="train", transforms=None):
        super().__init__(root, split, transforms)
        self.bands = ("red", "nir")

class Tuples:
    def __init__(self, root=None, split="train", transforms=None):
        pass

class Lost(Plain):
    def read(self, index):
        raise OSError("the disk is gone")

class Deaf(Plain):
    def __getitem__(self, index):
        sample = super().__getitem__(index)
        sample.pop("marked", None)
        return sample
"""


@pytest.fixture
def broken(install: Callable[[str, str], None], tmp_path: Path) -> Iterator[None]:
    install("zoo-broken", BROKEN)
    (tmp_path / "site" / "zoo_broken_data.py").write_text(BROKEN_DATA)
    reload()
    yield
    reload()


def failures(kind: str, name: str, **options: object) -> dict[str, str]:
    results = run_spec_checks(catalogue().tables()[kind].get(name), options)
    return {one.check: one.message for one in results if one.status == "failed"}


@pytest.mark.parametrize("name", list_losses())
def test_the_built_in_losses_pass(name: str) -> None:
    assert failures("losses", name) == {}


@pytest.mark.parametrize("name", list_metrics())
def test_the_built_in_metrics_pass(name: str) -> None:
    assert failures("metrics", name) == {}


def test_the_synthetic_data_set_passes() -> None:
    assert failures("datasets", "synthetic", scenes=3) == {}


@pytest.mark.parametrize("name", ["lsi", "lsi_without_rain", "random_forest_untuned"])
def test_built_in_risk_models_pass(name: str) -> None:
    pytest.importorskip("sklearn")
    assert failures("risk_models", name) == {}


@pytest.mark.usefixtures("broken")
@pytest.mark.parametrize(
    ("kind", "name", "check", "words"),
    [
        ("losses", "vector_loss", "loss_value", "return a scalar tensor"),
        ("losses", "counting_loss", "loss_ignores", "leave out pixels"),
        ("losses", "counting_loss", "described_options", "silent"),
        ("losses", "dividing_loss", "loss_ignores", "nan if all pixels are ignored"),
        ("metrics", "scalar_metric", "metric_values", "returned shape ()"),
        ("metrics", "changing_metric", "metric_values", "changes its arguments"),
        ("metrics", "infinite_metric", "metric_undefined", "infinite for counts of zero"),
        ("metrics", "exiting_metric", "metric_values", "SystemExit: 4"),
        ("losses", "no_loss", "loss_value", "zoo_broken:no_loss returned None. Return a function"),
        ("datasets", "transposed", "dataset_samples", "returned an image of shape (16, 16, 2) for 2 bands"),
        ("datasets", "halves", "dataset_samples", "read returned a mask of float64"),
        ("datasets", "texts", "dataset_names", "holds 'red' where a zoo.physics.Band belongs"),
        (
            "datasets",
            "tuples",
            "dataset_samples",
            "returned a Tuples without bands. Return a zoo.datasets.PatchDataset",
        ),
        ("datasets", "lost", "dataset_samples", "the code of plugin zoo-broken 1.0 failed (OSError: the disk is gone;"),
        ("datasets", "deaf", "dataset_transforms", "transforms is not applied"),
        ("risk_models", "constant_risk", "risk_learns", "AUC on the training rows is"),
        ("risk_models", "forgetful_risk", "risk_fit", "fit returned NoneType; return self"),
        ("risk_models", "crowded_risk", "risk_new_rows", "depends on the other rows"),
    ],
)
def test_what_is_broken_is_found(kind: str, name: str, check: str, words: str) -> None:
    assert words in failures(kind, name)[check]


@pytest.mark.usefixtures("broken")
def test_a_sound_data_set_of_a_plugin_passes() -> None:
    assert failures("datasets", "plain") == {}


def test_some_kinds_have_no_checks() -> None:
    spec = ReportSectionSpec(name="mine", target="a:b", summary="s")
    with pytest.raises(ConfigError, match="no checks for a report section"):
        run_spec_checks(spec)


@pytest.mark.usefixtures("broken")
def test_each_check_is_a_test_of_pytest() -> None:
    test = contract_of("counting_loss", silent=2.0)
    (parametrized,) = (mark for mark in test.pytestmark if mark.name == "parametrize")  # type: ignore[attr-defined]
    assert list(parametrized.args[1]) == ["described_options", "loss_value", "loss_ignores"]
    test(check="loss_value")
    with pytest.raises(AssertionError, match="leave out pixels"):
        test(check="loss_ignores")
    with pytest.raises(pytest.skip.Exception, match="no options"):
        contract_of("vector_loss")(check="described_options")
