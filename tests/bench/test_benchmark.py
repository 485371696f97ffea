"""Configurations: those of the repository are the tables of the paper, and what is wrong with a file has its place."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from zoo.bench.benchmark import Benchmark, ModelEntry, Setting, load_benchmark, settings_of
from zoo.bench.config import AdaptationSettings, TrialConfig
from zoo.bench.paper import TABLES, paper_row
from zoo.datasets.source import DataSource
from zoo.errors import ZooError
from zoo.schema import from_plain
from zoo.training.recipes import FineTuning

FILES = sorted((Path(__file__).parents[2] / "benchmarks").glob("*.toml"))

GOOD = """
baseline = "plain"
seeds = [0, 7]
recipe = { name = "quick", steps = 3 }
data = { name = "synthetic", scenes = 3 }

[[models]]
label = "plain"
model = "unet"

[[models]]
model = "enhanced_unet"
options = { fusion = "mul" }
"""


@pytest.fixture
def write(tmp_path: Path) -> Callable[[str], Path]:
    """Write a configuration."""

    def written(text: str) -> Path:
        path = tmp_path / "mine.toml"
        path.write_text(text, encoding="utf-8")
        return path

    return written


WITH_PLUGINS = {"smp", "weights", "weights_standardised"}
"""Configurations with models of zoo-smp; tests/test_zoo_smp.py runs their tests where it is installed."""


def test_there_is_a_configuration_for_every_table_and_question() -> None:
    names = {path.stem for path in FILES}
    tables = {"table3_convolutions", "table4_weights", "table5_attention", "table6_models"}
    assert names == tables | {"fusion", "placement", "leave_one_region_out", "new_scenes", "two_dates", *WITH_PLUGINS}


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
def test_every_row_of_a_table_is_a_row_of_the_papers(path: Path) -> None:
    if path.stem in WITH_PLUGINS:
        pytest.importorskip("zoo_smp", reason="the plugin zoo-smp is not installed")
    benchmark = load_benchmark(path)
    assert benchmark.name == path.stem
    assert len(benchmark.seeds) >= 3
    assert benchmark.baseline
    (trial, *_) = trials = benchmark.trials(Setting("", benchmark.data), {}, "cpu")
    assert trial.benchmark == path.stem
    assert len({trial.key for trial in trials}) == len(trials)
    if benchmark.paper:
        assert [entry.title for entry in benchmark.models] == list(TABLES[benchmark.paper])
        assert all(paper_row(trial) for trial in trials)
    else:
        assert not any(paper_row(trial) for trial in trials)


def test_the_papers_figures_are_those_it_prints() -> None:
    printed = {
        ("table3", "Standard + Dilated"): (0.646, 0.022, 22.83),
        ("table3", "Grouped Convolution"): (0.620, 0.052, 23.06),
        ("table4", "0.7 : 0.3"): (0.630, 0.039, None),
        ("table5", "Spatial Attention"): (0.651, 0.018, 21.77),
        ("table6", "Ours"): (0.667, 0.016, 21.66),
    }
    for (table, label), figures in printed.items():
        row = TABLES[table][label]
        assert (row.dice, row.loss, row.fps) == figures
    assert [len(rows) for rows in TABLES.values()] == [6, 5, 4, 7]


def test_a_file_names_models_data_recipe_and_seeds(write: Callable[[str], Path]) -> None:
    benchmark = load_benchmark(write(GOOD))
    assert benchmark.models == (ModelEntry("unet", {}, "plain"), ModelEntry("enhanced_unet", {"fusion": "mul"}))
    assert benchmark.data == DataSource("synthetic", {"scenes": 3})
    assert (benchmark.recipe.steps, benchmark.seeds, benchmark.name) == (3, (0, 7), "mine")
    trials = benchmark.trials(*settings_of(benchmark), {"train": "f"}, "cpu")
    assert [(trial.seed, trial.label) for trial in trials] == [
        (0, "plain"), (0, "enhanced_unet(fusion=mul)"), (7, "plain"), (7, "enhanced_unet(fusion=mul)"),
    ]  # fmt: skip


def test_a_file_and_flags_define_the_same_trial(write: Callable[[str], Path]) -> None:
    from_file = load_benchmark(write(GOOD)).trials(Setting("", DataSource("synthetic")), {}, "cpu")[0]
    flags = Benchmark("", "", (ModelEntry("unet"),), DataSource("synthetic"), "quick", {"steps": 3}, (0,))
    assert flags.trials(Setting("", DataSource("synthetic")), {}, "cpu")[0].key == from_file.key


@pytest.mark.parametrize(
    ("change", "complaint"),
    [
        (("baseline", "base_line"), "unknown key 'base_line'"),
        (("[0, 7]", '"many"'), "field 'seeds': expected int | array, got str"),
        (("[0, 7]", "[0, 0]"), "seeds must be a number of seeds (1 to 1000), or different whole numbers"),
        (("[0, 7]", "0"), "seeds must be a number of seeds"),
        (("[0, 7]", "true"), "got bool"),
        (('baseline = "plain"', 'baseline = "plane"'), "unknown baseline 'plane'"),
        (("steps = 3", 'steps = "three"'), "[recipe]: not a valid recipe: field 'steps': expected int | null, got str"),
        (("steps = 3", "stepz = 3"), "[recipe]: unknown key 'stepz'"),
        (("steps = 3", "steps = 3, epochs = 2"), "steps and epochs cannot be combined"),
        (("steps = 3", "lr = -1"), "lr must be a positive number"),
        (("steps = 3", 'optimiser = "adam"'), "unknown optimiser 'adam'"),
        (("steps = 3", 'loss = "cee"'), "unknown loss 'cee'"),
        (("quick", "quik"), "unknown recipe 'quik'"),
        (("scenes = 3", "scene = 3"), "[data]: data set 'synthetic': unknown option 'scene'"),
        (('"synthetic"', '"syntetic"'), "unknown data set or folder 'syntetic'"),
        (('"synthetic"', '"./nowhere"'), "there is no such folder"),
        (("scenes = 3", "scenes = 2020-01-01"), "is neither a string, a number, true nor false"),
        (('model = "unet"', 'model = "unett"'), "[[models]] number 1: unknown model 'unett'"),
        (('model = "unet"', ""), "[[models]] number 1: not a valid table: object missing required field model"),
        (('fusion = "mul"', 'fusion = "sum"'), "[[models]] number 2: model 'enhanced_unet': option 'fusion' cannot be"),
        (('fusion = "mul"', 'fusoin = "mul"'), "unknown option 'fusoin'"),
        (('label = "plain"', 'labell = "plain"'), "unknown key 'labell'"),
        (('label = "plain"', 'label = "enhanced_unet"'), "two models are called 'enhanced_unet'"),
        (
            ("[[models]]", '[[models]]\nmodel = "unet"\nlabel = "twin"\n[[models]]'),
            "two models are the same: 'twin' and 'plain'",
        ),
        (('model = "unet"', 'model = "unet"\nfreeze = "encoder"'), "need weights to start from. Add from ="),
        (('model = "unet"', 'model = "unet"\nfrm = "runs/x"'), "[[models]] number 1: unknown key 'frm'"),
        (('model = "unet"', 'model = "unet"\nfrom = "x"\nold_lr_factor = 2'), "old_lr_factor must be above 0"),
        (("seeds", 'paper = "table9"\nseeds'), "unknown table 'table9'"),
        (("seeds", 'hold_out = ["a", "a"]\nseeds'), "hold_out must be a list of different regions"),
        (("seeds", "adapt = 1\nseeds"), "field 'adapt': expected bool | object, got int"),
        (("seeds", 'adapt = { by = "scene" }\nseeds'), "[adapt]: by: unknown way to adapt 'scene'"),
        (("seeds", 'adapt = { bye = "group" }\nseeds'), "[adapt]: unknown key 'bye'"),
        (("seeds", 'adapt = { scales = "1,2" }\nseeds'), "field 'scales': invalid enum value '1,2'"),
        (("seeds", "adapt = { scales = [1, true] }\nseeds"), "field 'scales[1]': expected float, got bool"),
        (("seeds", "adapt = { scales = [0.4] }\nseeds"), "[adapt]: option scales: 0.4: magnifications"),
        (("seeds =", "seeds"), "is not valid TOML"),
        (("[0, 7]", "1000000000"), "seeds must be a number of seeds (1 to 1000)"),
        (("[0, 7]", "1" + 5000 * "0"), "is not valid TOML"),
        (("scenes = 3", f"x = {30 * '['}{30 * ']'}"), "is nested more than 20 levels deep"),
        (("steps = 3", "lr = inf"), "lr must be"),
        (("steps = 3", "time_limit = nan"), "time_limit must be"),
        (("steps = 3", "steps = 1000000000000"), "steps must be"),
        (('"synthetic"', f'"./{300 * "a"}"'), "is not a path"),
        (('"synthetic"', '"~nobody_at_all/x"'), "the home folder of '~nobody_at_all/x' is unknown"),
    ],
)
def test_errors_name_the_table_and_key(write: Callable[[str], Path], change: tuple[str, str], complaint: str) -> None:
    assert change[0] in GOOD
    path = write(GOOD.replace(*change, 1) if change[0] != "baseline" else GOOD.replace("baseline =", "base_line ="))
    with pytest.raises(ZooError) as caught:
        load_benchmark(path)
    told = str(caught.value)
    assert complaint in told
    if "two models" not in complaint and "baseline" not in complaint:
        assert "mine.toml" in told


def test_a_file_that_is_none_is_reported(tmp_path: Path, write: Callable[[str], Path]) -> None:
    write("").rename(tmp_path / "table3.toml")
    with pytest.raises(ZooError, match=r"no such file.*Did you mean 'table3.toml'"):
        load_benchmark(tmp_path / "table33.toml")
    with pytest.raises(ZooError, match="names no model"):
        load_benchmark(tmp_path / "table3.toml")
    with pytest.raises(ZooError, match="cannot be read"):
        load_benchmark(tmp_path)


def test_data_lie_beside_the_file(tmp_path: Path, patches: Path, write: Callable[[str], Path]) -> None:
    (tmp_path / "here").symlink_to(patches)
    source = load_benchmark(write(GOOD.replace('name = "synthetic", scenes = 3', 'name = "here"'))).data
    assert source == DataSource("folder", {"root": str(patches.resolve())})


def test_weights_to_start_from_lie_beside_the_file_or_have_a_name(
    tmp_path: Path, trained_bundle: Path, write: Callable[[str], Path]
) -> None:
    (tmp_path / "parent").symlink_to(trained_bundle)
    lines = 'model = "unet"\nfrom = "{}"\nfreeze = "encoder"\nold_lr_factor = 1'
    entry = load_benchmark(write(GOOD.replace('model = "unet"', lines.format("parent")))).models[0]
    assert entry.start == FineTuning("parent", ("encoder",), 1.0, str(trained_bundle.resolve()))
    named = load_benchmark(write(GOOD.replace('model = "unet"', lines.format("unet/somewhere")))).models[0]
    assert named.start == FineTuning("unet/somewhere", ("encoder",), 1.0)


def test_flags_override_a_file(write: Callable[[str], Path]) -> None:
    benchmark = load_benchmark(write(GOOD))
    epochs = benchmark.with_recipe(None, {"epochs": 2, "lr": 0.1, "steps": None})
    assert (epochs.recipe.steps, epochs.recipe.epochs, epochs.recipe.lr) == (None, 2, 0.1)
    assert benchmark.with_recipe("paper", {}).recipe.name == "paper"
    assert [entry.label for entry in benchmark.selected("plain").models] == ["plain"]
    assert benchmark.selected("enh*").baseline == ""
    with pytest.raises(ZooError, match=r"no model of mine is called 'plan'. Did you mean 'plain'"):
        benchmark.selected("plan")


def held_out(patches: Path, *names: str, **options: object) -> Benchmark:
    data = DataSource("folder", {"root": str(patches), "group_column": "scene", **options})
    models = (ModelEntry("unet"),)
    return Benchmark("loro", "", models, data, "quick", {}, (0,), hold_out=names, adapt=AdaptationSettings())


def test_every_region_is_held_out_in_turn(patches: Path) -> None:
    benchmark = held_out(patches, "all")
    settings = settings_of(benchmark)
    assert [setting.name for setting in settings] == ["held out: s0", "held out: s1", "held out: s2"]
    for setting, name in zip(settings, ("s0", "s1", "s2"), strict=True):
        assert {patch.group for patch in setting.data.open("test").patches} == {name}
        assert name not in {patch.group for split in ("train", "val") for patch in setting.data.open(split).patches}
    plain, adapted = benchmark.trials(settings[0], {}, "cpu")
    assert (plain.label, adapted.label) == ("unet", "unet (adapted)")
    assert adapted.plain == plain
    assert adapted.key != plain.key


def test_how_models_are_adapted_is_part_of_what_a_trial_is(write: Callable[[str], Path]) -> None:
    def adapted(line: str) -> TrialConfig:
        benchmark = load_benchmark(write(GOOD.replace("seeds", f"{line}\nseeds", 1)))
        plain, found = benchmark.trials(Setting("", benchmark.data), {}, "cpu")[:2]
        assert found.plain == plain
        assert from_plain(found.to_dict(), TrialConfig) == found
        return found

    lines = ("adapt = true", 'adapt = { by = "group" }', "adapt = { scales = [1, 2] }", "adapt = { tta = true }")
    usual, by_group, larger, turned = map(adapted, lines)
    assert usual.adapting == AdaptationSettings()
    assert "adapting" not in usual.to_dict()
    assert by_group.adapting == AdaptationSettings("group")
    assert larger.adapting == AdaptationSettings("split", (1.0, 2.0))
    assert turned.adapting == AdaptationSettings(tta=True)
    assert list(map(str, (usual.adapting, by_group.adapting, larger.adapting, turned.adapting))) == [
        "",
        "to each group",
        "magnified 1,2",
        "mean over flips and rotations",
    ]
    assert len({usual.key, by_group.key, larger.key, turned.key, usual.plain.key}) == 5
    assert load_benchmark(write(GOOD.replace("seeds", "adapt = false\nseeds", 1))).adapt is None
    assert load_benchmark(write(GOOD.replace("seeds", 'adapt = { scales = "auto" }\nseeds', 1))).to_dict()["adapt"] == {
        "scales": "auto"
    }


def test_regions_that_cannot_be_held_out_are_refused(patches: Path) -> None:
    with pytest.raises(ZooError, match="unknown region 's9'"):
        settings_of(held_out(patches, "s9"))
    with pytest.raises(ZooError, match="both choose the test split"):
        settings_of(held_out(patches, "all", test_groups=["s1"]))
    other = Benchmark("x", "", (ModelEntry("unet"),), DataSource("hrgldd", {}), "quick", {}, (0,), hold_out=("all",))
    with pytest.raises(ZooError, match="has no regions that can be held out"):
        settings_of(other)


def test_the_synthetic_regions_can_be_held_out() -> None:
    data = DataSource("synthetic", {"region": "all"})
    benchmark = Benchmark("x", "", (ModelEntry("unet"),), data, "quick", {}, (0,), hold_out=("alpine", "dryland"))
    assert [setting.data.options["test_region"] for setting in settings_of(benchmark)] == ["alpine", "dryland"]
