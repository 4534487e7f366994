"""The tables that tell the kernels what to do, laid out on the host.

A row of a parameter is: size, recipe, and the addresses of gradient, theta, a, b, alpha and the
step count.
A row of a rate is: the rate's address, its pool, its recipe.
"""

from array import array
from collections.abc import Hashable, Iterable, Sequence
from typing import NamedTuple

import torch

from hypergradient.engine.gpu.recipes import AverageRecipe, Operands, RateStep, Recipe

ALIGNMENT = 16  # bytes that a thread reads at once
CHUNK_FIELDS = RATE_FIELDS = POOL_FIELDS = 3  # numbers in their rows


class Tuning(NamedTuple):
    """How work is cut for the device; sums are added in an order that follows from it.

    Attributes:
        block: elements that a program takes at once.
        warps: of a program.
        stages: blocks that a program reads ahead.
        parts: chunks that a large model is cut into, about.
        most_blocks: of a chunk.
    """

    block: int = 1024
    warps: int = 8
    stages: int = 1
    parts: int = 4096
    most_blocks: int = 64


class Variant(NamedTuple):
    """What a kernel is compiled for; parameters of one variant share a launch."""

    types: tuple[torch.dtype, ...]  # of gradient, theta, a, b and rate
    ratio: bool
    has_b: bool
    elements: bool
    aligned: bool
    descends: bool


class Launch(NamedTuple):
    """Parameters of one variant, and the rows of int32 of the chunks that they are cut into.

    A row is: the parameter's row, the chunk's first block, and where its partial sum goes.
    """

    variant: Variant
    chunks: "array[int]"


class Plan(NamedTuple):
    """All tables that follow from the parameters' sizes, types and recipes, not from addresses.

    Attributes:
        recipes: the numbers of all recipes.
        of_params: for each parameter, the index of its recipe.
        launches: one for each variant.
        pools: for each pool, its first partial sum, its end, and its number of elements.
        of_rates: for each rate, the indices of its pool and its recipe.
        norms: whether some rate needs <g, g> and <u, u>.
        rate_type: of the rates, which share one.
        partials: how many partial sums there are.
        chunk: how many elements a chunk has.
    """

    recipes: "array[float]"
    of_params: list[int]
    launches: list[Launch]
    pools: "array[int]"
    of_rates: list[tuple[int, int]]
    norms: bool
    rate_type: torch.dtype
    partials: int
    chunk: int


def addresses_of(each: Operands) -> tuple[int, ...]:
    """Where the six tensors of a parameter are, as in its row; 0 where there is none."""
    grad, b, step = each.grad, each.b, each.step
    return (
        grad.data_ptr(),
        each.theta.data_ptr(),
        each.a.data_ptr(),
        0 if b is None else b.data_ptr(),
        each.alpha.data_ptr(),
        0 if step is None else step.data_ptr(),
    )


def types_of(each: Operands) -> tuple[torch.dtype, ...]:
    """The types of gradient, theta, a, b and rate."""
    grad, a, b = each.grad, each.a, each.b
    types = grad.dtype, each.theta.dtype, a.dtype, a.dtype if b is None else b.dtype
    return *types, each.alpha.dtype


def is_aligned(each: Operands, addresses: tuple[int, ...]) -> bool:
    """Whether all that a thread reads at once lies in one place."""
    grad, theta, a, b, alpha, _ = addresses
    return not (grad | theta | a | b | (alpha if each.pool is None else 0)) % ALIGNMENT


def variant_of(each: Operands, types: tuple[torch.dtype, ...], *, aligned: bool) -> Variant:
    """What the kernels for a parameter must be compiled for."""
    recipe, elements = each.recipe, each.pool is None
    return Variant(types, recipe.adam, each.b is not None, elements, aligned, recipe.descends)


def chunk_size(elements: int, tuning: Tuning) -> int:
    """How many of so many elements a program takes.

    It does not depend on the device, so that sums do not either.
    """
    blocks = -(-elements // (tuning.parts * tuning.block))
    return tuning.block * min(max(blocks, 1), tuning.most_blocks)


def number(pools: Iterable[Hashable]) -> list[int]:
    """Pools as numbers, in the order in which they come.

    Names of pools may be tensors, which can be keys of a dict but cannot be compared.
    """
    numbers: dict[Hashable, int] = {}
    return [numbers.setdefault(pool, len(numbers)) for pool in pools]


def plan_of(
    sizes: Sequence[int],
    variants: Sequence[Variant],
    pools: Sequence[int],
    params: Sequence[Operands],
    rates: Sequence[RateStep],
    tuning: Tuning,
) -> Plan:
    """Lay out a step: partial sums pool by pool, so that those of a pool lie side by side.

    `pools` has the numbers of the rates' pools, then those of the parameters.
    """
    recipes: dict[Recipe | AverageRecipe, int] = {}
    of_params = [recipes.setdefault(each.recipe, len(recipes)) for each in params]
    of_rates = [
        (pool, recipes.setdefault(rate.recipe, len(recipes)))
        for pool, rate in zip(pools, rates, strict=False)
    ]
    members: list[list[int]] = [[] for _ in range(max(pools, default=-1) + 1)]
    for i, pool in enumerate(pools[len(rates) :]):
        members[pool].append(i)
    chunk = chunk_size(sum(sizes), tuning)
    chunks: dict[Variant, array[int]] = {}
    ranges = array("q")
    partials = 0
    for these in members:
        first = partials
        for i in these:
            table = chunks.setdefault(variants[i], array("i"))
            for at in range(0, sizes[i], chunk):
                table.extend((i, at // tuning.block, partials))
                partials += 1
        ranges.extend((first, partials, sum(sizes[i] for i in these)))
    numbers = array("d", (each for recipe in recipes for each in recipe.numbers()))
    norms = any(recipe.norms for recipe in recipes)
    launches = [Launch(variant, table) for variant, table in chunks.items() if table]
    rate_type = params[0].alpha.dtype if params else torch.float32
    return Plan(numbers, of_params, launches, ranges, of_rates, norms, rate_type, partials, chunk)


def rows_of(
    sizes: Sequence[int],
    where: Sequence[tuple[int, ...]],
    params: Sequence[Operands],
    rates: Sequence[RateStep],
    plan: Plan,
) -> tuple["array[int]", "array[int]", "array[int]"]:
    """The tables that hold addresses: of parameters, of rates, and of step counts to advance."""
    rows = array("q")
    steps: dict[int, None] = {}  # parameters may share one
    for i, addresses in enumerate(where):
        rows.extend((sizes[i], plan.of_params[i], *addresses))
        if addresses[-1] and params[i].recipe.descends:
            steps[addresses[-1]] = None
    of_rates = array("q")
    for rate, (pool, recipe) in zip(rates, plan.of_rates, strict=True):
        of_rates.extend((rate.alpha.data_ptr(), pool, recipe))
    return rows, of_rates, array("q", steps)
