"""Laws of DTensor parameters, whatever their placements, held to the scalar loops."""

import math
from collections.abc import Iterator, Sequence
from itertools import product
from typing import Any

import pytest
import torch
from launch import launch
from torch import Tensor, distributed, nn
from torch.distributed.device_mesh import DeviceMesh
from torch.distributed.tensor import DTensor, Partial, Replicate, Shard, distribute_tensor
from torch.distributed.tensor.debug import CommDebugMode
from training import GRANULARITIES, mesh_of, whole

from cases import (
    BETAS,
    CASES,
    NESTEROV,
    Case,
    Problem,
    as_numbers,
    grouped,
    problem,
    reference,
)
from hypergradient import SGDHD, AdamHD, Hypergradient
from pairwise import covering

Placements = Sequence[Any] | None  # None for a plain tensor
ROWS, COLUMNS, SAME = Shard(0), Shard(1), Replicate()
EXACT = 1e-12
FEW = tuple(case for case in CASES if case.name in {"sgd", "nesterov", "adam", "adamw-decay"})

# A layout of the problem's parameters of shapes ((2, 3), (), (4,)), ((0, 3), (2, 1, 2), (1,)).
LINE: list[list[Placements]] = [[[COLUMNS], [SAME], [ROWS]], [[ROWS], None, [ROWS]]]
GRIDS: dict[str, list[list[Placements]]] = {
    "replicas-of-shards": [
        [[SAME, ROWS], [SAME, SAME], [SAME, ROWS]],
        [[SAME, ROWS], [SAME, ROWS], None],
    ],
    "both": [[[ROWS, COLUMNS], [SAME, SAME], [ROWS, ROWS]], [[ROWS, SAME], [SAME, ROWS], None]],
    "one-or-the-other": [
        [[ROWS, SAME], [SAME, SAME], [SAME, ROWS]],
        [[SAME, ROWS], [ROWS, SAME], [ROWS, SAME]],
    ],
    "nothing-sharded": [
        [[SAME, SAME], [SAME, SAME], None],
        [[SAME, SAME], [SAME, SAME], [SAME, SAME]],
    ],
}


def spread(tensor: Tensor, mesh: DeviceMesh, placements: Placements) -> Tensor:
    if placements is None:
        return tensor.clone()
    return distribute_tensor(tensor, mesh, placements, src_data_rank=None)


def partial_sum(g: Tensor, mesh: DeviceMesh, placements: Sequence[Any]) -> Tensor:
    """A gradient that is the sum over the dimensions in which its parameter is replicated."""
    parts = [Partial() if placement.is_replicate() else placement for placement in placements]
    copies = math.prod(mesh.size(d) for d, part in enumerate(parts) if part.is_partial())
    local = distribute_tensor(g / copies, mesh, placements, src_data_rank=None).to_local()
    return DTensor.from_local(local, mesh, parts, run_check=False, shape=g.shape, stride=g.stride())


def variants(cases: Sequence[Case]) -> Iterator[tuple[Case, dict[str, Any]]]:
    """Cases and options of their rates, in which all pairs meet."""
    axes = (list(cases), list(BETAS), GRANULARITIES, ("sum", "mean"))
    for row in covering([len(axis) for axis in axes]):
        case, rule, granularity, reduction = (axis[i] for axis, i in zip(axes, row, strict=True))
        if (rule, granularity) == ("hdm", "element"):  # refused
            granularity = "tensor"
        yield (
            case,
            {
                "rule": rule,
                "hypergrad_lr": BETAS[rule],
                "granularity": granularity,
                "reduction": reduction,
            },
        )


def follow(
    case: Case, of: Problem, options: dict[str, Any], mesh: DeviceMesh, layout: Any, partial: bool
) -> None:
    """Step on spread parameters, and compare rates and parameters with the loops."""
    groups = [
        [nn.Parameter(spread(theta, mesh, at)) for theta, at in zip(group, ats, strict=True)]
        for group, ats in zip(of.start, layout, strict=True)
    ]
    optimizer = case.build(grouped(groups, [options, {**options, "lr": 0.03}]))
    loops = reference(case, of.start, [options, {**options, "lr": 0.03}])
    for gradients in of.gradients:
        for group, of_group, ats in zip(groups, gradients, layout, strict=True):
            for p, g, at in zip(group, of_group, ats, strict=True):
                give = partial_sum if partial and at is not None else spread
                p.grad = None if g is None else give(g, mesh, at)
        optimizer.step()
        loops.step(as_numbers(gradients))
    for group, of_group, settings in zip(groups, loops.groups, optimizer.param_groups, strict=True):
        for p, scalars in zip(group, of_group, strict=True):
            rate = whole(optimizer.state.get(p, {}).get("lr", settings["lr"])).double()
            wanted = torch.tensor([[s.rate.value, s.theta] for s in scalars], dtype=torch.float64)
            found = torch.stack([rate.expand(p.shape).reshape(-1), whole(p).reshape(-1)], dim=1)
            torch.testing.assert_close(found, wanted.view(-1, 2), rtol=EXACT, atol=EXACT)
            for value in optimizer.state[p].values():  # laid out as torch lays them out
                assert isinstance(value, DTensor) == (
                    isinstance(p, DTensor) and value.dim() > 0
                ) or (p.dim() == 0)


def follow_all(cases: Sequence[Case], shape: Any, names: Any, layout: Any, partial: bool) -> None:
    for case, options in variants(cases):
        # with pauses, decoupled decay follows the loops only nearly: see test_laws_reference
        of = problem(31, steps=3, missing=0.0 if case.recomputes else 0.2)
        follow(case, of, options, mesh_of(shape, names), layout, partial)


def test_shards_and_replicas_follow_the_loops() -> None:
    launch(2, follow_all, CASES, (2,), ("x",), LINE, False)


def follow_grids() -> None:
    for i, layout in enumerate(GRIDS.values()):
        follow_all(FEW[i % 2 :: 2], (2, 2), ("x", "y"), layout, False)
    follow_all(FEW[1:3], (2, 2), ("x", "y"), GRIDS["one-or-the-other"], True)


def test_a_grid_of_ranks_follows_the_loops() -> None:
    launch(4, follow_grids)


def test_ranks_that_no_group_of_the_mesh_is_for() -> None:
    """Two of three dimensions are sharded: their four ranks, here two, get a group once."""
    layout = [[[*at, SAME] if at else None for at in group] for group in GRIDS["both"]]
    launch(4, follow_all, FEW[2:3], (2, 1, 2), ("x", "y", "z"), layout, False)


# What a step sends.


def collectives(granularity: str) -> None:
    mesh, grid = mesh_of((4,), ("x",)), mesh_of((2, 2), ("x", "y"))
    placed = {
        "plain": [(mesh, None)] * 3,
        "replicated": [(mesh, [SAME])] * 3,
        "sharded": [(mesh, [ROWS])] * 3,
        "mixed": [(mesh, [ROWS]), (mesh, [SAME]), (mesh, None)],
        "grid": [(grid, [ROWS, COLUMNS]), (grid, [SAME, ROWS]), (grid, [ROWS, SAME])],
        "hybrid": [(grid, [SAME, ROWS])] * 3,
    }
    silent = {"plain", "replicated"}
    if granularity == "element":
        silent = placed.keys()
    for name, ats in placed.items():
        params = [nn.Parameter(spread(torch.ones(5, 3), *at)) for at in ats]
        optimizer = SGDHD(
            [{"params": params[:1]}, {"params": params[1:]}],
            granularity=granularity,
            rule="multiplicative",
            **NESTEROV,
        )
        for step in range(3):
            for p in params:
                p.grad = None if step == 2 else torch.ones_like(p)
            with CommDebugMode() as sent:
                optimizer.step()
            assert sent.get_total_counts() == (name not in silent), (
                name,
                step,
                sent.get_comm_counts(),
            )


def collectives_of_all() -> None:
    for granularity in GRANULARITIES:
        collectives(granularity)


def test_a_step_sends_one_small_sum_or_nothing() -> None:
    launch(4, collectives_of_all)


# Faults of some ranks only.


def one_without_gradients(granularity: str, never: bool) -> None:
    """One rank has no gradient where the other has one; nobody waits, and both go on the same."""
    (case,) = (case for case in CASES if case.name == "nesterov")
    options = {"granularity": granularity, "rule": "multiplicative", "hypergrad_lr": 0.2}
    of = problem(32, shapes=(((2,), (2,)),), missing=0.0)
    mesh, rank = mesh_of((2,), ("x",)), distributed.get_rank()
    loops = reference(case, of.start, [{**options, "granularity": "group"}])
    p = nn.Parameter(spread(torch.cat(of.start[0]), mesh, [ROWS]))
    optimizer = case.build([p], **options)
    for step, (gradients,) in enumerate(of.gradients):
        absent = never or step in {2, 3}
        full = torch.cat([g for g in gradients if g is not None])
        p.grad = None if rank == 1 and absent else spread(full, mesh, [ROWS])
        optimizer.step()
        loops.step(as_numbers([[gradients[0], None if absent else gradients[1]]]))
    rate = optimizer.param_groups[0]["lr"] if granularity != "tensor" else optimizer.state[p]["lr"]
    wanted = loops.groups[0][0][0]
    assert float(rate) == pytest.approx(wanted.rate.value, rel=EXACT)
    assert float(rate) != pytest.approx(wanted.options.lr, rel=1e-3)
    assert whole(p).tolist() == pytest.approx(
        [s.theta for part in loops.groups[0] for s in part], rel=EXACT
    )
    assert_same_everywhere([rate])


def without_gradients() -> None:
    for granularity, never in product(("global", "group", "tensor"), (False, True)):
        one_without_gradients(granularity, never)


def test_a_rank_may_have_no_gradient() -> None:
    launch(2, without_gradients)


def assert_same_everywhere(tensors: Sequence[Tensor]) -> None:
    known: list[Any] = [None] * distributed.get_world_size()
    distributed.all_gather_object(known, [t.as_subclass(Tensor).tolist() for t in tensors])
    assert all(one == known[0] for one in known), known


def damaged_on_one_rank() -> None:
    """A rate whose sum is damaged anywhere stays on all ranks; the others move."""
    mesh, rank = mesh_of((2,), ("x",)), distributed.get_rank()
    generator = torch.Generator().manual_seed(0)
    gradients = [torch.rand(2, 4, generator=generator) + 0.5 for _ in range(6)]
    for value, granularity, rule in product((math.nan, math.inf, -math.inf), GRANULARITIES, BETAS):
        if (rule, granularity) == ("hdm", "element"):  # refused
            continue
        params = [nn.Parameter(spread(torch.ones(4), mesh, [ROWS])) for _ in range(2)]
        optimizer = SGDHD(
            params, 0.05, hypergrad_lr=BETAS[rule], granularity=granularity, rule=rule
        )
        history = []
        for step, of_step in enumerate(gradients):
            for p, g in zip(params, of_step, strict=True):
                p.grad = spread(g, mesh, [ROWS])
            if step == 2 and rank == 1:
                params[0].grad.to_local()[0] = value
            optimizer.step()
            own = granularity in {"tensor", "element"}
            rates = [
                whole(optimizer.state[p]["lr"] if own else optimizer.param_groups[0]["lr"])
                for p in params
            ]
            assert all(rate.isfinite().all() for rate in rates)
            assert_same_everywhere(rates)
            history.append(rates)
        first, other = ([rates[i] for rates in history] for i in range(2))
        stayed = first[1] == first[2]
        assert stayed.tolist() == (
            [False, False, True, False] if granularity == "element" else True
        )
        assert ((other[1] == other[2]) == (granularity in {"global", "group"})).all()
        assert (first[4] != first[3]).all()  # plain SGD forgets a direction after a step


def test_what_is_damaged_on_one_rank_moves_no_rate_on_any() -> None:
    launch(2, damaged_on_one_rank)


# What is refused, and the rest of an optimizer's life.


def refused() -> None:
    line, grid = mesh_of((4,), ("x",)), mesh_of((2, 2), ("x", "y"))
    ones = torch.ones(4, 4)

    def sharded(mesh: DeviceMesh, at: Sequence[Any]) -> nn.Parameter:
        p = nn.Parameter(spread(ones, mesh, at))
        p.grad = torch.ones_like(p)
        return p

    p = sharded(line, [ROWS])
    with pytest.raises(ValueError, match=r"process_group .* leave it out"):
        SGDHD([p], process_group=distributed.group.WORLD).step()
    with pytest.raises(ValueError, match=r"differentiable=True .* leave it out"):
        AdamHD([p], differentiable=True).step()
    with pytest.raises(ValueError, match=r"granularity='member' .* whole on each rank"):
        AdamHD([p], granularity="member").step()
    with pytest.raises(ValueError, match=r"rule='hdm' with granularity='element' .* or another"):
        SGDHD([p], rule="hdm", granularity="element").step()
    matrix = sharded(line, [ROWS])
    for base in ("muon", "adafactor"):
        with pytest.raises(ValueError, match=rf"base='{base}' .* use base='adam', or Distributed"):
            Hypergradient([matrix], base=base, lr=0.1).step()
        whole_here = sharded(line, [SAME])
        Hypergradient([whole_here], base=base, lr=0.1).step()
        other = [{"params": [matrix], "base": "adam"}, {"params": [nn.Parameter(ones)]}]
        Hypergradient(other, base=base, lr=0.1).step()
    with pytest.raises(ValueError, match=r"Partial.*shard or replicate it"):
        SGDHD([nn.Parameter(DTensor.from_local(ones, line, [Partial()]))]).step()
    with pytest.raises(ValueError, match="neither includes the other"):
        SGDHD([sharded(grid["x"], [ROWS]), sharded(grid["y"], [ROWS])]).step()
    with pytest.raises(ValueError, match=r"process_group='world' .*group\.WORLD"):
        SGDHD([p], process_group="world")  # type: ignore[arg-type]


def test_what_cannot_be_is_said() -> None:
    launch(4, refused)


def scheduled() -> None:
    """A schedule reaches rates of tensors and of elements wherever they are."""
    mesh = mesh_of((2,), ("x",))
    for granularity in GRANULARITIES:
        found = []
        for at in ([ROWS], None):
            p = nn.Parameter(spread(torch.ones(3, 2), mesh, at))
            optimizer = SGDHD([p], 0.1, hypergrad_lr=1e-2, granularity=granularity)
            scheduler = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda t: 1 / (1 + t))
            for step in range(4):
                p.grad = spread(torch.full((3, 2), 1.0 + step), mesh, at)
                optimizer.step()
                scheduler.step()
            own = granularity in {"tensor", "element"}
            found.append(
                whole(optimizer.state[p]["lr"] if own else optimizer.param_groups[0]["lr"])
            )
            summary = optimizer.lr_summary()
            assert summary["min"] == pytest.approx(float(found[-1].min()))
        torch.testing.assert_close(*found, rtol=EXACT, atol=0)
        assert (found[0] > 0.1 / 5 * 1.01).all()  # the schedule's own rate, scaled up
    empty = SGDHD([nn.Parameter(spread(torch.ones(1), mesh, [ROWS]))], granularity="element")
    empty.param_groups[0]["params"][0].grad = spread(torch.ones(1), mesh, [ROWS])
    empty.step()
    assert math.isnan(empty.lr_summary()["min"]) == (distributed.get_rank() == 1)


def test_schedules_and_summaries_work_on_shards() -> None:
    launch(2, scheduled)
