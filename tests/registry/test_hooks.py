"""Every hook is documented, and every hook is used by a test."""

from pathlib import Path

import pytest

from zoo.registry import hookspecs

HOOKS = sorted(name for name in vars(hookspecs) if name.startswith("zoo_register_"))


def test_there_are_six_hooks_and_one_old_name() -> None:
    assert len(HOOKS) == 6 + 1


@pytest.mark.parametrize("hook", HOOKS)
def test_hook_is_documented_and_tested(hook: str) -> None:
    assert getattr(hookspecs, hook).__doc__
    here = Path(__file__)
    others = [path.read_text() for path in here.parents[1].rglob("test_*.py") if path != here]
    assert any(f"def {hook}(" in text for text in others)
    docs = here.parents[2] / "docs" / "plugins.md"
    assert hook in docs.read_text(encoding="utf-8")
