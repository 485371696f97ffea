"""Commands that are stopped at any moment: the next run ends as if nothing had happened."""

from __future__ import annotations

import random
import signal

import pytest

from tests.conftest import NIGHTLY
from tests.faults.conftest import COMMANDS, Zoo, assert_nothing_half_written, assert_same_files

KILLS = 34 if NIGHTLY else 2
"""Kills of each command: half of them kill -9, half SIGTERM; 204 in a night."""


@pytest.mark.parametrize("number", range(KILLS))
@pytest.mark.parametrize("name", COMMANDS)
def test_a_killed_command_resumes_and_ends_with_the_same_files(zoo: Zoo, name: str, number: int) -> None:
    whole, files = zoo.undisturbed(name)
    folder = zoo.new_folder()
    rng = random.Random(f"{name} {number}")
    kind = (signal.SIGKILL, signal.SIGTERM)[number % 2]
    fault = {"kind": "signal", "number": int(kind)}
    # Half of the moments lie between two changes of files, where most can go wrong, and half anywhere.
    at = {"event": rng.randint(1, whole.events)} if number % 4 < 2 else {"after": rng.uniform(0, whole.seconds)}
    killed = zoo.run(name, folder, **fault, **at)
    assert killed.code in (0, -kind, 130), killed.errors
    assert killed.orphans == []
    assert_nothing_half_written(name, folder, files)
    again = zoo.run(name, folder)
    if again.code == 2 and "already exists" in again.errors:
        # The kill came after the last file had its name.
        assert_nothing_half_written(name, folder, files)
    else:
        assert again.code == 0, again.errors
    assert again.orphans == []
    assert_same_files(name, folder, files)
