"""Thresholds of rain events against curves that the events were drawn around."""

import json

import numpy as np
import pandas as pd
import pytest
from scipy.stats import norm

import zoo
from zoo.cli import run
from zoo.errors import ConfigError, DataError, UnknownNameError

GUZZETTI = (2.20, 0.44)
"""Guzzetti et al. (2008): I = 2.20 D^-0.44, written here once more, so that the constant of zoo is tested too."""


def draw(count, scale, exponent, spread, seed=0):
    rng = np.random.default_rng(seed)
    hours = 10 ** rng.uniform(0, 2.7, count)
    return pd.DataFrame({"P": scale * hours**-exponent * 10 ** rng.normal(0, spread, count), "D": hours / 24})


def test_the_curve_of_guzzetti_is_reproduced_within_2_percent():
    """Once it runs through the middle of the events, once 5 % of them lie below it."""
    hours = np.geomspace(1, 500, 30)
    truth = GUZZETTI[0] * hours ** -GUZZETTI[1]
    middle = zoo.risk.thresholds(draw(20_000, *GUZZETTI, 0.15), probabilities=[0.5], repeats=0)
    np.testing.assert_allclose(middle.curves[0].intensity(hours), truth, rtol=0.02)
    lowest = draw(20_000, GUZZETTI[0] * 10 ** (-norm.ppf(0.05) * 0.15), GUZZETTI[1], 0.15, seed=1)
    found = zoo.risk.thresholds(lowest, probabilities=[0.05], repeats=0)
    np.testing.assert_allclose(found.curves[0].intensity(hours), truth, rtol=0.02)
    published = {curve.name: curve for curve in found.curves}["Guzzetti et al. 2008"]
    np.testing.assert_allclose(published.intensity(hours), truth)
    assert found.curves[0].below == pytest.approx(0.05, abs=0.006)


def test_the_line_is_that_of_polyfit_and_the_spread_that_of_the_events():
    events = draw(3000, 5.0, 0.6, 0.3)
    found = zoo.risk.thresholds(events, probabilities=[0.5], repeats=0)
    slope, intercept = np.polyfit(np.log10(24 * events["D"]), np.log10(events["P"]), 1)
    assert found.curves[0].exponent == pytest.approx(-slope, rel=1e-9)
    assert found.curves[0].scale == pytest.approx(10**intercept, rel=0.01)
    # The kernel widens the density by its own width, n^(-1/5) of the standard deviation (Scott's rule).
    assert found.spread == pytest.approx(0.3 * np.sqrt(1 + 3000**-0.4), rel=0.03)


def test_intervals_hold_the_truth_and_narrow_with_more_events():
    few, many = (
        zoo.risk.thresholds(draw(count, 5.0, 0.6, 0.3, seed=2), probabilities=[0.5], repeats=60) for count in (60, 960)
    )
    widths = []
    for found in (few, many):
        low, high = found.curves[0].scale_interval
        assert low < 5.0 < high
        assert found.exponent_interval[0] < 0.6 < found.exponent_interval[1]
        widths.append(np.log(high / low))
        band = np.array(found.curves[0].band)
        assert (band[:, 0] < found.curves[0].intensity(np.array(found.curves[0].hours))).all()
    # Sixteen times as many events have a quarter of the width.
    assert widths[0] / widths[1] == pytest.approx(4, rel=0.35)


def test_groups_are_drawn_whole():
    """Ten copies of each event carry no more information than the events themselves."""
    events = draw(80, 5.0, 0.6, 0.3)
    copies = pd.concat([events] * 10, ignore_index=True)
    copies["storm"] = list(range(80)) * 10
    single, grouped, naive = (
        zoo.risk.thresholds(table, probabilities=[0.5], repeats=60, group=group)
        for table, group in ((events, None), (copies, "storm"), (copies, None))
    )
    width = [np.log(np.divide(*found.curves[0].scale_interval[::-1])) for found in (single, grouped, naive)]
    assert width[1] == pytest.approx(width[0], rel=0.25)
    assert width[2] < 0.5 * width[0]


@pytest.fixture
def labelled(tmp_path):
    """300 events with landslides around 4 D^-0.5, 900 without around a quarter of it."""
    slid = draw(300, 4.0, 0.5, 0.2).assign(slide="yes")
    dry = draw(900, 1.0, 0.5, 0.2, seed=1).assign(slide="no")
    pd.concat([slid, dry]).to_csv(tmp_path / "events.csv", index=False)
    return tmp_path


def test_equation_5_is_fitted_to_events_with_and_without_landslides(labelled, capsys):
    outputs = [str(labelled / name) for name in ("t.json", "t.png")]
    table = str(labelled / "events.csv")
    options = ["--label", "slide", "--repeats", "20", "--out", outputs[0], "--picture", outputs[1]]
    assert run(["risk", "thresholds", table, *options]) == 0
    told = capsys.readouterr()
    assert "300 events with landslides, 900 without" in told.out
    assert "Caine 1980" in told.out
    assert "rainfall factor: alpha" in told.out
    stored = json.loads((labelled / "t.json").read_text())
    rain = stored["rain"]
    # Even odds lie half-way in the logarithm, on 2 D^-0.5; the direction of the boundary is that of the curves.
    assert rain["beta"] / rain["alpha"] == pytest.approx(0.5, rel=0.1)
    assert rain["intensity"] == pytest.approx(2.0 * 24**-0.5, rel=0.1)
    assert stored["rain_intervals"]["alpha"][0] < rain["alpha"] < stored["rain_intervals"]["alpha"][1]
    curve = next(one for one in stored["curves"] if one["name"] == "5 %")
    assert curve["false_alarms"] < 0.1 < 1 - curve["below"]
    assert (labelled / "t.png").read_bytes()[:4] == b"\x89PNG"
    assert run(["risk", "thresholds", table, *options]) == 2
    assert "already exists" in capsys.readouterr().err


def test_bad_tables_are_refused(labelled, capsys):
    events = draw(100, 5.0, 0.6, 0.3)
    cases = [
        (events.assign(D=events["D"] * 24), "Is the duration in hours"),
        (events.assign(P=events["P"] * -1), "is -"),
        (events.head(19), "19 events with landslides are too few"),
        (events.assign(D=1.0), "the same duration"),
        (events.assign(P=[*["much"], *events["P"][1:]]), "row 1 holds 'much', not a number"),
        (events.head(0), "has no rows"),
        (events.set_axis([f"storm {number}" for number in range(100)]).assign(P="0,5"), "row 1 holds '0,5'"),
    ]
    for table, message in cases:
        with pytest.raises(DataError, match=message):
            zoo.risk.thresholds(table)
    with pytest.raises(DataError, match="column 'storm': all events with landslides are of one group"):
        zoo.risk.thresholds(events.assign(storm="a"), group="storm")
    assert zoo.risk.thresholds(events.assign(storm="a"), group="storm", repeats=0).exponent_interval is None
    with pytest.raises(UnknownNameError, match="unknown column 'I'"):
        zoo.risk.thresholds(events, rain_columns=("I", "D"))
    with pytest.raises(ConfigError, match=r"probabilities 1\.5"):
        zoo.risk.thresholds(events, probabilities=[1.5])
    assert run(["risk", "thresholds", str(labelled / "none.csv")]) == 2
    assert "there is no such file" in capsys.readouterr().err
    with_gaps = pd.concat([events, pd.DataFrame({"P": [np.nan, 0.0], "D": [1.0, 1.0]})])
    assert "2 events without rain" in zoo.risk.thresholds(with_gaps, repeats=0).notes[0]


def test_columns_of_another_unit_twice_or_swapped_are_refused():
    events = draw(100, 5.0, 0.6, 0.3)
    twice = pd.concat([events, events["P"]], axis=1)
    with pytest.raises(DataError, match="two columns are named 'P'"):
        zoo.risk.thresholds(twice)
    with pytest.raises(ConfigError, match="are the same column"):
        zoo.risk.thresholds(events, rain_columns=("P", "P"))
    for names, message in (
        (("P", "D (h)"), r"'D \(h\)' is not in days, by its name. Divide its values by 24"),
        (("P", "duration_hours"), "'duration_hours' is not in days"),
        (("P", "D [min]"), r"Divide its values by 1440"),
        (("P (mm/day)", "D"), r"'P \(mm/day\)' is in mm/day, not in mm/h"),
        (("rain_mm", "D"), "'rain_mm' is in mm, not in mm/h"),
        (("P (in/h)", "D"), r"'P \(in/h\)' is in in/h, not in mm/h"),
        (("D", "P"), "which their names contradict"),
        (("duration", "intensity"), "which their names contradict"),
        (("days", "rain_mm_h"), "which their names contradict"),
    ):
        with pytest.raises(DataError, match=message):
            zoo.risk.thresholds(events.set_axis(list(names), axis=1), rain_columns=names)
    for names in (
        ("P (mm/h)", "D (days)"),
        ("rain_mm_h", "rain_duration"),
        ("intensity", "duration_d"),
        ("I_max", "D_1"),
    ):
        zoo.risk.thresholds(events.set_axis(list(names), axis=1), rain_columns=names, repeats=0)


def test_implausible_rain_is_doubted_with_what_was_seen():
    events = draw(100, 5.0, 0.6, 0.2)
    usual = zoo.risk.thresholds(events, repeats=0).notes
    assert len(usual) == 1
    assert "mm/h, D 0.0" in usual[0]
    assert "100 events repeat another row" in zoo.risk.thresholds(pd.concat([events, events]), repeats=0).notes[0]
    few_hours = pd.DataFrame({"P": 18 * np.arange(6, 30) ** -0.4 * np.linspace(0.8, 1.2, 24), "D": np.arange(6, 30.0)})
    for table, message in (
        (events.assign(P=events["P"] / 25.4), "Is P in inches"),
        (few_hours, "Is D in hours"),
        (pd.DataFrame({"P": events["D"], "D": events["P"]}), "Are P and D swapped"),
        (pd.DataFrame({"P": 0.5 * (24 * events["D"]) ** 0.4, "D": events["D"]}), "Is P the depth in mm"),
    ):
        assert any(message in note for note in zoo.risk.thresholds(table, repeats=0).notes), message
