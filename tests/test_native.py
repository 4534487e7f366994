"""Law: the C pass over all tensors is the eager visits, and who has no compiler does not notice."""

import subprocess
import sys
import zlib
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from cases import BETAS, CASES, LR, Case, problem
from hypergradient import SGDHD, AdamHD, native, products
from hypergradient.pools import Pool
from hypergradient.visits import Visit
from test_laws_reference import TOLERANCE, follow, loses_pauses

needs_compiler = pytest.mark.skipif(native.function() is None, reason="no C compiler here")
SHAPES = ((300, 7), (), (70_001,), (0, 3), (2, 32_768))  # across blocks, chunks and their ends


@pytest.fixture
def eager(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(native, "function", lambda: None)


@pytest.fixture
def cache_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A cache of its own, with nothing in it."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    native.function.cache_clear()
    yield tmp_path / "hypergradient"
    native.function.cache_clear()


@pytest.mark.usefixtures("eager")
@pytest.mark.parametrize("granularity", ["group", "tensor", "element"])
@pytest.mark.parametrize("rule", BETAS)
@pytest.mark.parametrize("case", CASES, ids=str)
def test_eager_float32_equals_scalar_loops(case: Case, rule: str, granularity: str) -> None:
    """As test_laws_reference.py has it for the C pass, where there is a compiler."""
    options = {"rule": rule, "hypergrad_lr": BETAS[rule], "granularity": granularity}
    missing = 0.0 if loses_pauses(case, granularity) else 0.2
    of = problem(zlib.crc32(f"{case} {rule}".encode()), torch.float32, missing=missing)
    follow(case, of, [options, {**options, "lr": 1.04 * LR}], TOLERANCE[torch.float32])


@needs_compiler
@pytest.mark.parametrize("case", CASES, ids=str)
@torch.no_grad()
def test_sums_and_kept_directions_are_the_eager_ones(case: Case) -> None:
    by_c, eagerly = trained(case), trained(case)
    assert native.visit_all(by_c) == []  # all of them are for the C function
    for ours, wanted in zip(by_c, eagerly, strict=True):
        products._visit(wanted)
        gu, gg, uu = totals(ours)
        eager_gu, eager_gg, eager_uu = totals(wanted)
        assert abs(gu - eager_gu) <= 1e-6 * (gg * uu) ** 0.5
        assert (gg, uu) == pytest.approx((eager_gg, eager_uu), rel=1e-6)
        for kept, eager_kept in zip(ours.memory, wanted.memory, strict=True):
            torch.testing.assert_close(kept, eager_kept, rtol=1e-6, atol=1e-6)


@needs_compiler
@pytest.mark.parametrize("bounds", [None, (0.0499, 0.0502)])
@pytest.mark.parametrize("case", CASES, ids=str)
@torch.no_grad()
def test_rates_of_elements_are_the_eager_ones(case: Case, bounds: Any) -> None:
    options = {"granularity": "element", "rule": "additive", "lr_bounds": bounds}
    by_c, eagerly = trained(case, **options), trained(case, **options)
    for visit in (*by_c, *eagerly):
        visit.grad.view(-1)[:1] = torch.inf  # these rates stay where they are
    assert native.visit_all(by_c) == []
    for ours, wanted in zip(by_c, eagerly, strict=True):
        products._visit(wanted)
        torch.testing.assert_close(ours.alpha, wanted.alpha, rtol=3e-7, atol=1e-9)


def totals(visit: Visit) -> list[Any]:
    assert visit.pool is not None
    return visit.pool.totals()


def trained(case: Case, **options: Any) -> list[Visit]:
    """The visits of the step after two steps."""
    generator = torch.Generator().manual_seed(5)

    def normal() -> list[Tensor]:
        return [torch.randn(shape, generator=generator) for shape in SHAPES]

    params = [p.requires_grad_() for p in normal()]
    options = {"hypergrad_lr": 1e-5, "rule": "multiplicative", **options}
    optimizer = case.build(params, **options)
    for step in range(3):
        for p, g in zip(params, normal(), strict=True):
            p.grad = g
        if step < 2:
            optimizer.step()
    visits: list[Visit] = optimizer._visits(optimizer.param_groups[0], {})
    return [visit._replace(pool=visit.pool and Pool(norms=True)) for visit in visits]


@needs_compiler
@torch.no_grad()
def test_numbers_of_threads_do_not_matter() -> None:
    seen = []
    before = torch.get_num_threads()
    try:
        for threads in (1, 2, 3):
            torch.set_num_threads(threads)
            visits = trained(CASES[0])
            native.visit_all(visits)
            seen.append([totals(visit) for visit in visits])
    finally:
        torch.set_num_threads(before)
    assert seen[0] == seen[1] == seen[2]


@needs_compiler
def test_what_it_cannot_do_is_left_to_the_eager_way() -> None:
    class Special(torch.nn.Parameter):
        pass

    p = torch.randn(4, 6, 2, 2).to(memory_format=torch.channels_last)
    cases: dict[str, tuple[Tensor, dict[str, Any]]] = {
        "float64": (torch.randn(3, dtype=torch.float64), {}),
        "bfloat16": (torch.randn(3).bfloat16(), {}),
        "complex": (torch.randn(3, dtype=torch.complex64), {}),
        "another layout than the gradient": (p, {}),
        "cosines of elements": (
            torch.randn(3),
            {"granularity": "element", "rule": "multiplicative"},
        ),
        "subclass": (Special(torch.randn(3)), {}),
    }
    for name, (start, options) in cases.items():
        theta = start.requires_grad_()
        theta.grad = torch.ones_like(theta, memory_format=torch.contiguous_format)
        optimizer = SGDHD([theta], **options)
        with torch.no_grad():
            visits = optimizer._visits(optimizer.param_groups[0], {})
            assert native.visit_all(visits) == visits, name


@pytest.mark.usefixtures("cache_folder")
def test_no_compiler_no_surprise(monkeypatch: pytest.MonkeyPatch) -> None:
    for compiler in ("no-such-compiler", "false"):  # not there; there, and fails
        monkeypatch.setenv("CC", compiler)
        native.function.cache_clear()
        assert native.function() is None
        train()


def test_turned_off_by_the_environment(cache_folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HYPERGRADIENT_NATIVE", "0")
    assert native.function() is None
    train()
    assert not cache_folder.exists()


def test_an_unusable_cache_folder_is_survived(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    occupied = tmp_path / "file"
    occupied.touch()
    monkeypatch.setenv("XDG_CACHE_HOME", str(occupied))
    native.function.cache_clear()
    try:
        assert native.function() is None
        train()
    finally:
        native.function.cache_clear()


@needs_compiler
@pytest.mark.parametrize("damage", ["torn", "foreign", "empty"])
def test_damaged_libraries_are_built_again(cache_folder: Path, damage: str) -> None:
    assert native.function() is not None
    (library,) = cache_folder.glob("*.so")
    whole = library.read_bytes()
    library.unlink()  # a library in use is not written to
    library.write_bytes(
        {"torn": whole[: len(whole) // 2], "foreign": b"\x7fELF?", "empty": b""}[damage]
    )
    native.function.cache_clear()
    assert native.function() is not None
    assert library.read_bytes() == whole
    train()


@needs_compiler
def test_first_uses_at_the_same_time(cache_folder: Path) -> None:
    code = "from hypergradient import native; assert native.function() is not None"

    def use(_: int) -> int:
        return subprocess.run([sys.executable, "-c", code], check=False).returncode

    with ThreadPoolExecutor() as pool:
        assert [*pool.map(use, range(3))] == [0, 0, 0]
    assert {path.suffix for path in cache_folder.iterdir()} == {".so"}  # and no parts


def train() -> None:
    torch.manual_seed(0)
    model = torch.nn.Linear(3, 1)
    optimizer = AdamHD(model.parameters(), lr=1e-3, hypergrad_lr=1e-5)
    for _ in range(5):
        optimizer.zero_grad()
        model(torch.ones(1, 3)).square().sum().backward()
        optimizer.step()
    assert optimizer.lr_summary()["median"] > 1e-3
