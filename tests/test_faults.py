"""The faults of faults.toml can be made: each has its place in the code, once."""

from pathlib import Path

import pytest

from mutations import Fault, faults

SOURCE = Path(__file__).parents[1] / "src" / "hypergradient"


@pytest.mark.parametrize("fault", faults(), ids=lambda fault: fault.what)
def test_a_fault_has_one_place_in_the_code(fault: Fault) -> None:
    assert (SOURCE / fault.file).read_text(encoding="utf-8").count(fault.old) == 1
    assert fault.old != fault.new
