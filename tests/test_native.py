"""Law: a step by the C function is the eager one, and who has no compiler does not notice."""

import copy
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

from cases import BETAS, CASES, LR, Case, give, grouped, parameters, problem
from hypergradient import SGDHD, AdamHD, AdamWHD
from hypergradient.engine import hypergradients, native, native_library
from hypergradient.engine.collect import Collector
from hypergradient.engine.inner_products import InnerProducts
from hypergradient.engine.param_step import Batches, UpdateRule
from pairwise import pairs
from test_laws_reference import TOLERANCE, follow, loses_pauses

needs_compiler = pytest.mark.skipif(native_library.function() is None, reason="no C compiler here")
SHAPES = ((300, 7), (), (70_001,), (0, 3), (2, 32_768))  # across blocks, chunks and their ends


@pytest.fixture
def eager(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(native_library, "function", lambda: None)


@pytest.fixture
def cache_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A cache of its own, with nothing in it; what is compiled into it need not be fast."""
    monkeypatch.setattr(native_library, "FLAGS", ("-O0", *native_library.FLAGS[1:]))
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    native_library.function.cache_clear()
    yield tmp_path / "hypergradient"
    native_library.function.cache_clear()


@pytest.mark.usefixtures("eager")
@pairs(case=CASES, rule=BETAS, granularity=["group", "tensor", "element"])
def test_eager_float32_equals_scalar_loops(case: Case, rule: str, granularity: str) -> None:
    """As test_laws_reference.py has it for the C function, where there is a compiler."""
    options = {"rule": rule, "hypergrad_lr": BETAS[rule], "granularity": granularity}
    missing = 0.0 if loses_pauses(case, granularity) else 0.2
    of = problem(zlib.crc32(f"{case} {rule}".encode()), torch.float32, missing=missing)
    # rates of elements are float32, and the rule "adam" divides by a root: it rounds more often
    times = 4 if (rule, granularity) == ("adam", "element") else 1
    follow(case, of, [options, {**options, "lr": 1.04 * LR}], times * TOLERANCE[torch.float32])


@needs_compiler
@pytest.mark.parametrize("case", CASES, ids=str)
@torch.no_grad()
def test_sums_and_kept_directions_are_the_eager_ones(case: Case) -> None:
    by_c, eagerly = alone(trained(case)), alone(trained(case))
    visit(by_c)
    for (update, (ours,)), (eager_update, (wanted,)) in zip(by_c, eagerly, strict=True):
        hypergradients._accumulate_one(eager_update, wanted)
        gu, gg, uu = totals(update)
        eager_gu, eager_gg, eager_uu = totals(eager_update)
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
    by_c, eagerly = alone(trained(case, **options)), alone(trained(case, **options))
    for _, (each,) in (*by_c, *eagerly):
        each.grad.view(-1)[:1] = torch.inf  # these rates stay where they are
    visit(by_c)
    for (_, (ours,)), (update, (wanted,)) in zip(by_c, eagerly, strict=True):
        hypergradients._accumulate_one(update, wanted)
        torch.testing.assert_close(ours.alpha, wanted.alpha, rtol=3e-7, atol=1e-9)


BY_TORCH = {"classical", "classical-nesterov", "nesterov-gradient", "adam-gradient"} | {
    *("amsgrad", "amsgradw-maximize"),
    *(case.name for case in CASES if not case.kernels),
}  # whose states do not advance ahead of theta


@needs_compiler
@pytest.mark.parametrize("granularity", ["global", "group", "tensor", "element"])
@pytest.mark.parametrize("case", CASES, ids=str)
def test_steps_are_the_eager_ones(
    case: Case, granularity: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With pauses, rates that rest at first, and each going on from the other's checkpoint."""
    of = problem(13, torch.float32, steps=8, shapes=(SHAPES, ((33,), (5, 3))))
    rule = "additive" if granularity == "element" else "multiplicative"
    options = {"rule": rule, "granularity": granularity}
    each = [{**options, "hypergrad_lr": BETAS[rule]}, {**options, "lr": 0.3, "hypergrad_lr": 0.0}]
    with_c = native_library.function()
    groups = [parameters(of.start) for _ in range(2)]
    optimizers = [case.build(grouped(params, each)) for params in groups]
    jobs = []
    for t, gradients in enumerate(of.gradients):
        for params, optimizer, call in zip(groups, optimizers, (with_c, None), strict=True):
            monkeypatch.setattr(native_library, "function", lambda call=call: call)
            give(params, gradients)
            optimizer.step()
            optimizer.param_groups[1]["hypergrad_lr"] = BETAS[rule] if t == 3 else 0.0
        monkeypatch.setattr(native_library, "function", lambda: with_c)
        jobs.append(whole(optimizers[0]))
        assert_equal_to_rounding(*(everything_of(optimizer) for optimizer in optimizers))
        if t == 4:
            states = [optimizer.state_dict() for optimizer in optimizers]
            for optimizer, state in zip(optimizers, reversed(states), strict=True):
                optimizer.load_state_dict(copy.deepcopy(state))
    assert any(jobs) is (case.name not in BY_TORCH)
    assert optimizers[0].lr_summary() != pytest.approx(case.build(groups[0][0]).lr_summary())


def whole(optimizer: Any) -> bool:
    """Whether theta is moved by the C function wherever a rate may move, and only there."""
    with torch.no_grad():
        for group in optimizer.param_groups:
            batches = batches_of(optimizer, group)
            left = native.NativeStep(batches).remaining
            if left != ([] if group["hypergrad_lr"] else batches):
                return False
    return True


def everything_of(optimizer: Any) -> dict[str, Tensor]:
    """All that a step may change, by name."""
    found = {}
    for i, group in enumerate(optimizer.param_groups):
        found[f"{i} lr"] = torch.as_tensor(group["lr"]).as_subclass(Tensor)
        for j, p in enumerate(group["params"]):
            found |= {f"{i} {j} {name}": t for name, t in optimizer.state[p].items()}
            found[f"{i} {j}"] = p
    return found


def assert_equal_to_rounding(ours: dict[str, Tensor], wanted: dict[str, Tensor]) -> None:
    assert list(ours) == list(wanted)
    for name, t in ours.items():
        torch.testing.assert_close(t, wanted[name], rtol=1e-5, atol=1e-5, msg=name)


def alone(batches: Batches) -> Batches:
    """Each visit with a pool of its own, and states that do not advance."""
    return [
        (
            update._replace(
                state_update=None, products=update.products and InnerProducts(norms=True)
            ),
            [each],
        )
        for update, visits in batches
        for each in visits
    ]


def batches_of(optimizer: Any, group: Any = None) -> Batches:
    """The parameters of a group, by default the first, as a step would move them."""
    group = optimizer.param_groups[0] if group is None else group
    return Collector(optimizer, {}).batches(group)


def visit(batches: Batches) -> native.NativeStep:
    job = native.NativeStep(batches)
    assert job.others == []  # all of them are for the C function
    job.accumulate()
    return job


def totals(update: UpdateRule) -> list[Any]:
    assert update.products is not None
    return update.products.totals()


def trained(case: Case, **options: Any) -> Batches:
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
    return batches_of(optimizer)


@needs_compiler
@torch.no_grad()
def test_numbers_of_threads_do_not_matter() -> None:
    seen = []
    before = torch.get_num_threads()
    try:
        for threads in (1, 2, 3):
            torch.set_num_threads(threads)
            batches = trained(CASES[0])
            visit(batches).descend()
            (update, visits) = batches[0]
            seen.append([totals(update), *(each.p.tolist() for each in visits)])
    finally:
        torch.set_num_threads(before)
    assert seen[0] == seen[1] == seen[2]


@needs_compiler
@pytest.mark.parametrize("hd", [SGDHD, AdamHD, AdamWHD])
def test_places_in_a_tensor_do_not_matter(hd: Any) -> None:
    """At one rate, that of the first step; a sum's rounding is a matter of order."""
    generator = torch.Generator().manual_seed(3)
    start, g = (torch.randn(1100, generator=generator) for _ in range(2))
    ended = []
    for shift in (0, 5):
        p = start.roll(shift).requires_grad_()
        p.grad = g.roll(shift)
        hd([p], lr=0.1, weight_decay=0.1).step()
        ended.append(p.detach().roll(-shift))
    assert torch.equal(*ended)


@needs_compiler
@pytest.mark.parametrize("granularity", ["group", "element"])
def test_a_backward_pass_notices_that_its_parameters_have_moved(granularity: str) -> None:
    p = torch.ones(3, requires_grad=True)
    optimizer = SGDHD([p], lr=0.1, granularity=granularity)
    loss = (p**3).sum()
    loss.backward(retain_graph=True)
    optimizer.step()
    with pytest.raises(RuntimeError, match="modified by an inplace operation"):
        loss.backward()


@needs_compiler
@pytest.mark.parametrize("hd", [SGDHD, AdamHD, AdamWHD])
def test_rates_of_elements_do_not_depend_on_a_first_tensor(hd: Any, eager_too: Any) -> None:
    """A number first, whose decay leaves nothing of theta_{t-2}: lr decay = 1."""
    options = {"lr": 2.0, "weight_decay": 0.5, "granularity": "element", "hypergrad_lr": 0.1}

    def train() -> list[Tensor]:
        params = [torch.nn.Parameter(torch.ones(shape)) for shape in ((), (3,))]
        optimizer = hd(params, lr_bounds=None, **options)
        for _ in range(4):
            params[0].grad, params[1].grad = torch.zeros(()), torch.tensor([1.0, -1.0, 0.3])
            optimizer.step()
        return [optimizer.state[p]["lr"] for p in params]

    for ours, wanted in zip(*eager_too(train), strict=True):
        torch.testing.assert_close(ours, wanted, rtol=1e-5, atol=1e-6)


@needs_compiler
def test_a_complex_number_is_left_to_the_eager_way(eager_too: Any) -> None:
    def train() -> Tensor:
        p = torch.nn.Parameter(torch.tensor(1 + 1j))
        optimizer = SGDHD([p], lr=0.1, granularity="element")
        for _ in range(3):
            p.grad = torch.tensor(1 + 0.5j)
            optimizer.step()
        return p.detach()

    assert torch.equal(*eager_too(train))


@pytest.fixture
def eager_too(monkeypatch: pytest.MonkeyPatch) -> Any:
    """Call a function with the C function, and without."""

    def both(train: Any) -> list[Any]:
        with_c = train()
        monkeypatch.setattr(native_library, "function", lambda: None)
        return [with_c, train()]

    return both


@needs_compiler
def test_a_parameter_that_is_not_for_it_leaves_the_others_to_it() -> None:
    """A sparse gradient among dense ones; a device among others that tells no step count."""
    params = [torch.nn.Parameter(torch.ones(3, 2)) for _ in range(3)]
    sgd = SGDHD(params, lr=0.1)
    params[0].grad = params[2].grad = torch.ones(3, 2)
    params[1].grad = torch.ones(3, 2).to_sparse(1)
    away = torch.nn.Parameter(torch.ones(2, device="meta"))
    here = [torch.nn.Parameter(torch.ones(2)) for _ in range(2)]
    adam = AdamHD([here[0], away, here[1]], lr=0.1)
    for p in (*here, away):
        p.grad = torch.ones_like(p)
    with torch.no_grad():
        for optimizer, other in ((sgd, params[1]), (adam, away)):
            left = native.NativeStep(batches_of(optimizer)).remaining
            assert [visit.p is other for _, visits in left for visit in visits] == [True]


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
            batches = batches_of(optimizer)
            assert native.NativeStep(batches).others == batches, name


@pytest.mark.usefixtures("cache_folder")
def test_no_compiler_no_surprise(monkeypatch: pytest.MonkeyPatch) -> None:
    for compiler in ("no-such-compiler", "false"):  # not there; there, and fails
        monkeypatch.setenv("CC", compiler)
        native_library.function.cache_clear()
        assert native_library.function() is None
        train()


def test_turned_off_by_the_environment(cache_folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HYPERGRADIENT_NATIVE", "0")
    assert native_library.function() is None
    train()
    assert not cache_folder.exists()


def test_an_unusable_cache_folder_is_survived(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    occupied = tmp_path / "file"
    occupied.touch()
    monkeypatch.setenv("XDG_CACHE_HOME", str(occupied))
    native_library.function.cache_clear()
    try:
        assert native_library.function() is None
        train()
    finally:
        native_library.function.cache_clear()


@needs_compiler
@pytest.mark.parametrize("damage", ["torn", "foreign", "empty"])
def test_damaged_libraries_are_built_again(cache_folder: Path, damage: str) -> None:
    assert native_library.function() is not None
    (library,) = cache_folder.glob("*.so")
    whole = library.read_bytes()
    library.unlink()  # a library in use is not written to
    library.write_bytes(
        {"torn": whole[: len(whole) // 2], "foreign": b"\x7fELF?", "empty": b""}[damage]
    )
    native_library.function.cache_clear()
    assert native_library.function() is not None
    assert library.read_bytes() == whole
    train()


@needs_compiler
def test_first_uses_at_the_same_time(cache_folder: Path) -> None:
    code = "from hypergradient.engine.native_library import function; assert function() is not None"

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
