"""Trials are named by what they depend on, and bad names are answered with good ones."""

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from zoo.bench.config import TrialConfig, select_models
from zoo.datasets.source import DataSource
from zoo.errors import DataError, UnknownNameError, ZooError
from zoo.schema import decode_json
from zoo.training.recipes import get_recipe


def test_all_means_all_seven() -> None:
    names = select_models("all")
    assert {"unet", "enhanced_unet", "segnet", "deeplabv3plus", "mobilenetv2", "drs_unet", "model54_standin"} <= set(
        names
    )


def test_names_and_patterns_keep_their_order_and_appear_once() -> None:
    assert select_models("segnet, *unet, unet") == ["segnet", "drs_unet", "enhanced_unet", "unet"]


@pytest.mark.parametrize(
    ("text", "reason"),
    [("unett", "Did you mean 'unet'"), ("*foo*", r"no model matches '\*foo\*'"), (" ,", "no model was named")],
)
def test_models_that_do_not_exist_are_refused(text: str, reason: str) -> None:
    with pytest.raises(ZooError, match=reason):
        select_models(text)


def test_data_are_a_name_or_a_folder(tmp_path: Path) -> None:
    assert DataSource.parse("synthetic", {"scenes": 3}) == DataSource("synthetic", {"scenes": 3})
    assert DataSource.parse(str(tmp_path)).options == {"root": str(tmp_path)}
    assert DataSource.parse(str(tmp_path)).label == tmp_path.name
    with pytest.raises(UnknownNameError, match="Did you mean 'synthetic'"):
        DataSource.parse("syntetic")
    with pytest.raises(DataError, match="no such folder"):
        DataSource.parse(str(tmp_path / "absent"))
    odd = {"a" * 300: "unknown data set|not a path", "./" + "a" * 300: "path|folder", "x/\udcff": "not valid UTF-8"}
    for text, complaint in odd.items():
        with pytest.raises(ZooError, match=complaint):
            DataSource.parse(text)
    (tmp_path / "file").write_text("")
    with pytest.raises(DataError, match="is a file"):
        DataSource.parse(str(tmp_path / "file"))


def test_the_key_changes_with_what_matters_alone(trial: Callable[..., TrialConfig]) -> None:
    base = trial()
    assert base.key == trial().key
    moved = DataSource("folder", {"root": "/elsewhere"})
    assert trial(data=moved).key == base.key
    others = [
        trial("unet"),
        trial(options={"a": 1}),
        trial(seed=1),
        trial(device="cuda:0"),
        trial(recipe=get_recipe("paper")),
        trial(fingerprints={"train": "x"}),
    ]
    assert len({config.key for config in [base, *others]}) == 7


def test_a_trial_survives_json(trial: Callable[..., TrialConfig]) -> None:
    config = trial(options={"widths": [1, 2]})
    back = decode_json(json.dumps(config.to_dict()), TrialConfig)
    assert back == config
    assert back.key == config.key
    assert config.label == "tiny(widths=[1, 2])"
