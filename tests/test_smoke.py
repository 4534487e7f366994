"""scripts/smoke.py, in few cases on this torch; `make smoke` runs it whole, on any torch."""

import importlib.util
import sys
from pathlib import Path
from typing import Any

import pytest

from hypergradient import SGDHD

SCRIPT = Path(__file__).parents[1] / "scripts" / "smoke.py"


def load() -> Any:
    spec = importlib.util.spec_from_file_location("smoke", SCRIPT)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules["smoke"] = module  # where dataclasses look for it
    spec.loader.exec_module(module)
    return module


smoke = load()


@pytest.mark.parametrize("entry", smoke.ENTRIES, ids=lambda entry: entry.name)
def test_every_optimizer_keeps_the_laws(entry: Any) -> None:
    reasons = {case: smoke.outcome(entry, case) for case in smoke.cases(entry, quick=True)}
    assert not {case: reason for case, reason in reasons.items() if reason is not None}


@pytest.mark.parametrize(
    ("options", "law"),
    [
        ({"hypergrad_lr": 0.0}, "the rate moves by its derivative"),
        ({"maximize": True}, "the rate moves by its derivative"),
        ({"lr_bounds": (0.02, 0.02)}, "the rate moves by its derivative"),
    ],
)
def test_a_broken_law_is_noticed(options: dict[str, Any], law: str) -> None:
    entry = smoke.Entry("wrong", SGDHD, options)
    assert law in str(smoke.outcome(entry, smoke.Case()))


def test_the_whole_script_has_every_case() -> None:
    for entry in smoke.ENTRIES:
        whole = [*smoke.cases(entry, quick=False)]
        assert len(whole) == len({*whole}) >= len(smoke.SCHEDULERS)
        assert {case.compiler for case in whole} == {None, "eager", "aot_eager"}
