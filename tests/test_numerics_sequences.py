"""Law: whatever happens, in whatever order, the rates are those of the scalar loops.

Hypothesis draws the events and shrinks what fails. `HYPERGRADIENT_EXAMPLES=20000 pytest
tests/test_numerics_sequences.py` draws that many, other ones each time.
"""

import math
from typing import Any

import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor, nn

from cases import BETAS, CASES, LR, SHAPES, Case, grouped, parameters, rates
from pair import Pair, assert_untouched, everything, normal
from thorough import thorough

GROUPS = (*SHAPES, ((2, 2),))
JOINING = ((2,), ())
SIZES = {"normal": 1.0, "spike": 1e4, "huge": 1e30, "tiny": 1e-30, "denormal": 1e-310}
DAMAGE = (math.nan, math.inf, -math.inf)

Event = tuple[Any, ...]


def group_options(granularity: st.SearchStrategy[str]) -> st.SearchStrategy[dict[str, Any]]:
    return st.fixed_dictionaries(
        {
            "lr": st.sampled_from([LR, 0.0, 0.052]),
            "hypergrad_lr": st.sampled_from([1e-3, 0.0, 0.2]),
            "rule": st.sampled_from([*BETAS]),
            "granularity": granularity,
            "reduction": st.sampled_from(["sum", "mean"]),
            "lr_bounds": st.sampled_from([(0.0, math.inf), (0.0, 0.0525), None]),
            "weight_decay": st.sampled_from([0.0, 0.1]),
        }
    ).map(able_to_move)


def able_to_move(options: dict[str, Any]) -> dict[str, Any]:
    """A rate of 0 is refused with the rules that multiply it."""
    return options if options["rule"] == "additive" else {**options, "lr": options["lr"] or LR}


own = group_options(st.sampled_from(["group", "tensor", "element"]))
everywhere = group_options(st.just("global"))
steps = st.tuples(
    st.just("step"),
    st.sampled_from([*SIZES, "zero", "damaged"]),
    st.sampled_from(["plain", "scaled", "accumulated", "clipped"]),
    st.integers(0, 9),  # which gradient is missing, if any
    st.integers(0, 99),
)
events = st.one_of(
    steps,
    steps,
    st.tuples(st.just("copy"), st.sampled_from(["save", "deepcopy", "pickle"])),
    st.tuples(st.just("skip"), st.sampled_from(DAMAGE)),
    st.tuples(
        st.just("write"),
        st.sampled_from(["assignment", "fill", "halving"]),
        st.sampled_from([0.03, 0.0, 0.3]),
    ),
    st.tuples(st.just("join")),
)
worlds = st.one_of(
    *(
        st.tuples(
            st.sampled_from(CASES),
            st.lists(options, min_size=3, max_size=3),
            st.booleans(),
            st.lists(events, max_size=12),
        )
        for options in (own, everywhere)
    )
)


@thorough(250)
@given(worlds)
def test_any_sequence_of_events_is_as_the_scalar_loops_have_it(
    world: tuple[Case, list[dict[str, Any]], bool, list[Event]],
) -> None:
    case, (*options, of_joining), from_zero, sequence = world
    start = [
        [theta * (not from_zero) for theta in normal(group, i)] for i, group in enumerate(SHAPES)
    ]
    pair = Pair(case, start, options)
    for event, *how in sequence:
        if event == "step":
            step(pair, *how)
            if pair.out_of_hand():
                return
        elif event == "skip":
            skip(pair, *how)
        elif event == "write":
            by, value = how
            pair.write(value, by=by)
        elif event == "copy":
            pair.copy(*how)
        elif len(pair.groups) == len(SHAPES):
            pair.join(normal(JOINING, 9), of_joining)


def step(pair: Pair, size: str, how: str, missing: int, seed: int) -> None:
    """One step, with the gradients prepared as training loops do."""
    params = [p for group in pair.groups for p in group]
    gradients: list[Tensor | None] = list(damaged(normal([p.shape for p in params], seed), size))
    if missing < len(params):
        gradients[missing] = None
    scaler = torch.amp.GradScaler("cpu", init_scale=2.0**10) if how == "scaled" else None
    if size == "damaged" and scaler:
        return  # that is skipped
    for p, g in zip(params, gradients, strict=True):
        p.grad = None
        if g is not None and how == "accumulated":
            p.grad = 0.25 * g
            p.grad += 0.75 * g
        elif g is not None:
            p.grad = scaler.scale(g) if scaler else g
    if how == "clipped":
        nn.utils.clip_grad_norm_(params, 1.0)
    if not scaler or any(g is not None and g.numel() for g in gradients):
        pair.step_with_what_is_there(scaler)


def damaged(gradients: list[Tensor], size: str) -> list[Tensor]:
    if size == "damaged":
        if some := [g.view(-1) for g in gradients if g.numel()]:
            some[0][0] = DAMAGE[int(some[-1][-1] > 0)]
        return gradients
    return [SIZES.get(size, 0.0) * g for g in gradients]


def skip(pair: Pair, damage: float) -> None:
    """A gradient overflows under a scale: nothing happens."""
    kept = everything(pair.optimizer)
    scaler = torch.amp.GradScaler("cpu", init_scale=2.0**10)
    params = [p for group in pair.groups for p in group]
    for p in params:
        p.grad = scaler.scale(torch.ones_like(p))
    params[0].grad.view(-1)[0] = damage
    scaler.step(pair.optimizer)
    assert_untouched(everything(pair.optimizer), kept)


DTYPES = [torch.float32, torch.bfloat16, torch.float16]


@thorough(60)
@given(st.sampled_from(DTYPES), worlds)
def test_no_sequence_of_events_poisons_a_rate(
    dtype: torch.dtype, world: tuple[Case, list[dict[str, Any]], bool, list[Event]]
) -> None:
    """In any precision a rate is finite, within its bounds, and moved by a cosine up to beta."""
    case, options, _, sequence = world
    groups = parameters([[p.to(dtype) for p in normal(shapes, 1)] for shapes in GROUPS])
    optimizer = case.build(grouped(groups, options))
    for event, size, *others in (e for e in sequence if e[0] == "step"):
        before = rates(optimizer)
        for i, group in enumerate(groups):
            given = damaged(normal([p.shape for p in group], others[-1] + i), size)
            for p, g in zip(group, given, strict=True):
                p.grad = g.to(dtype)
        optimizer.step()
        for group, olds, news in zip(optimizer.param_groups, before, rates(optimizer), strict=True):
            low, high = group["lr_bounds"] or (-math.inf, math.inf)
            most = 1.001 * group["hypergrad_lr"] + 1e-7  # element-wise rates begin rounded
            for old, new in zip(olds, news, strict=True):
                assert new.isfinite().all(), event
                assert ((new == old) | (new >= low) & (new <= high * (1 + 1e-7))).all()
                if group["rule"] == "multiplicative":
                    assert ((new - old).abs() <= most * old.abs() + 1e-9).all()
