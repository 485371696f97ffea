"""The time left follows what this run measured, for trained and adapted trials apart."""

from __future__ import annotations

import pytest

from zoo.bench.time_left import TimeLeft


class Clock:
    now = 0.0

    def __call__(self) -> float:
        return self.now


def both(models: int, trained: float = 10.0, adapted: float = 10.0) -> tuple[TimeLeft, Clock]:
    """A trained and an adapted trial of each of some models, with their prior costs."""
    clock = Clock()
    costs = {f"t{number}": {"train": trained * 0.8, "test": trained * 0.2} for number in range(models)}
    costs |= {f"a{number}": {"adapt": adapted * 0.8, "test": adapted * 0.2} for number in range(models)}
    return TimeLeft(costs, frozenset(f"a{number}" for number in range(models)), clock), clock


def run(left: TimeLeft, clock: Clock, name: str, seconds: float, *, ok: bool = True) -> None:
    left.progress(name, "data", 0, 1)
    clock.now += seconds
    left.finished(name, ok=ok)


def test_no_time_is_shown_before_a_measurement() -> None:
    left, clock = both(2)
    assert left.seconds() is None
    left.progress("t0", "data", 0, 1)
    clock.now += 5
    assert left.seconds() is None


def test_adapted_trials_take_the_rate_of_trained_ones_until_they_are_measured() -> None:
    left, clock = both(2, adapted=5.0)
    run(left, clock, "t0", 100.0)
    assert left.seconds() == pytest.approx(100 + 50 + 50)
    # The adapted one takes four times as long as its prior cost says, and the trained ones are not affected.
    run(left, clock, "a0", 200.0)
    found = left.seconds()
    assert found is not None
    assert found == pytest.approx(100 + 200, rel=0.2)
    run(left, clock, "t1", 100.0)
    found = left.seconds()
    assert found is not None
    assert found == pytest.approx(200, rel=0.15)
    run(left, clock, "a1", 200.0)
    assert left.seconds() == 0


def test_a_running_trial_counts_by_its_share() -> None:
    left, clock = both(1)
    left.progress("t0", "train", 0, 40)
    clock.now += 40
    left.progress("t0", "train", 20, 40)
    assert left.share("t0") == pytest.approx(0.4)
    assert left.seconds() == pytest.approx(60 + 100)


def test_the_steps_of_earlier_runs_take_no_time_in_this_run() -> None:
    left, clock = both(1)
    left.progress("t0", "train", 0, 40)
    left.progress("t0", "resume", 20, 40)
    assert left.share("t0") == pytest.approx(0.4)
    assert left.seconds() is None
    clock.now += 20
    left.progress("t0", "train", 30, 40)
    assert left.share("t0") == pytest.approx(0.6)
    # A quarter of the training took 20 s: 20 s for the rest of it, 20 s for its test, and 100 s for the other trial.
    assert left.seconds() == pytest.approx(40 + 100)
    clock.now += 40
    left.finished("t0", ok=True)
    assert left.seconds() == pytest.approx(100)


def test_adapting_to_several_regions_never_moves_the_bar_back() -> None:
    left, _ = both(1)
    shares = []
    for stage, done, total in (("adapt", 4, 8), ("test", 5, 10), ("adapt", 8, 8), ("test", 10, 10)):
        left.progress("a0", stage, done, total)
        shares.append(left.share("a0"))
    assert shares == pytest.approx([0.4, 0.5, 0.9, 1.0])


def test_kept_and_failed_trials_do_not_affect_the_estimate() -> None:
    left, clock = both(3)
    left.kept("t0")
    run(left, clock, "t1", 1.0, ok=False)
    left.finished("a1", ok=False)
    assert left.seconds() is None
    run(left, clock, "t2", 99.0)
    # The failure took a hundredth of the time.
    assert left.seconds() == pytest.approx(2 * 99.0, rel=0.02)


def test_trials_at_the_same_time_share_the_wait() -> None:
    left, clock = both(3)
    for name in ("t0", "t1"):
        left.progress(name, "train", 0, 1)
    clock.now += 100
    for name in ("t0", "t1"):
        left.finished(name, ok=True)
    assert left.seconds() == pytest.approx(400 / 2)
    for name in ("t2", "a0", "a1"):
        left.kept(name)
    # The last one runs alone.
    assert left.seconds() == pytest.approx(100)
