"""The kernels of a step: visit, move the rates, descend.

The layouts of rows, rates and recipes are those of tables.py. A program of the visit or the descent
takes one chunk of one tensor, in blocks. Only the last block of a tensor needs a mask, and stands
apart, because masked loads are not 16 bytes wide.
"""

import torch
import triton
import triton.language as tl

from hypergradient.engine.gpu.recipes import Numbers

ROW, RATE, POOL, CHUNK, PARTIAL, TOTAL = (tl.constexpr(n) for n in (8, 3, 3, 3, 3, 4))
RECIPE = tl.constexpr(len(Numbers._fields))
# columns of a row
SIZE, ITS_RECIPE, GRAD, THETA, A, B, ALPHA, STEP = (tl.constexpr(n) for n in range(8))
# columns of a recipe
SIGN, L2, LOG_BETA1, LOG_BETA2, ADAM_EPS, DECAY, A_G, A_A, A_B, B_G, B_B = (
    tl.constexpr(n) for n in range(11)
)
MULTIPLICATIVE, BETA, LOW, HIGH, MEAN, READS, DESCENDS = (tl.constexpr(n) for n in range(11, 18))
TYPES = {
    torch.float64: tl.float64,
    torch.float32: tl.float32,
    torch.bfloat16: tl.bfloat16,
    torch.float16: tl.float16,
}
EPS = tl.constexpr(torch.finfo(torch.float32).eps)
MOST = tl.constexpr(torch.finfo(torch.float32).max)


@triton.jit
def pointer_at(address, dtype: tl.constexpr, ALIGNED: tl.constexpr):
    """The pointer whose address a table holds."""
    pointer = tl.load(address).to(tl.pointer_type(dtype))
    if ALIGNED:
        pointer = tl.multiple_of(pointer, 16)
    return pointer


@triton.jit
def read(pointer, left, BLOCK: tl.constexpr, MASKED: tl.constexpr):
    """The next block of numbers, in float32; zeros where none are left."""
    index = tl.arange(0, BLOCK)
    if MASKED:
        return tl.load(pointer + index, mask=index < left, other=0.0).to(tl.float32)
    return tl.load(pointer + index).to(tl.float32)


@triton.jit
def read_if(wanted, pointer, left, BLOCK: tl.constexpr, MASKED: tl.constexpr):
    """As `read` if they are wanted; else zeros, without touching memory."""
    index = tl.arange(0, BLOCK)
    mask = tl.broadcast_to(wanted, index.shape) != 0
    if MASKED:
        mask = mask & (index < left)
    return tl.load(pointer + index, mask=mask, other=0.0).to(tl.float32)


@triton.jit
def write(pointer, value, left, BLOCK: tl.constexpr, MASKED: tl.constexpr):
    """Write a block of numbers, rounded to the pointer's type."""
    index = tl.arange(0, BLOCK)
    rounded = value.to(pointer.dtype.element_ty)
    if MASKED:
        tl.store(pointer + index, rounded, mask=index < left)
    else:
        tl.store(pointer + index, rounded)


@triton.jit
def extent(row, chunk, size_of_chunk, BLOCK: tl.constexpr):
    """Where a chunk starts in its tensor, and how many elements it has."""
    start = tl.load(chunk + 1).to(tl.int64) * BLOCK
    left = tl.load(row + SIZE) - start
    return start, tl.minimum(left, size_of_chunk.to(tl.int64))


@triton.jit
def adam_scalars(recipe, t):
    """(scale, shift) of Adam's direction m / (scale sqrt(v) + shift) at step t.

    In float64: 1 - beta2^t loses half the digits of float32 at the first steps.
    """
    bias1 = 1.0 - tl.exp(tl.load(recipe + LOG_BETA1) * t)
    bias2 = 1.0 - tl.exp(tl.load(recipe + LOG_BETA2) * t)
    root2 = tl.sqrt(bias2)
    return (bias1 / root2).to(tl.float32), (bias1 * tl.load(recipe + ADAM_EPS)).to(tl.float32)


@triton.jit
def decay_of_last(decay, alpha):
    """The two numbers by which u_{t-1} = (ratio + lambda theta_{t-1}) / (1 - lambda alpha).

    That is so because u_{t-1} = ratio + lambda theta_{t-2} and theta_{t-1} = theta_{t-2} - alpha
    u_{t-1}. Where 1 - lambda alpha is 0 nothing of theta_{t-2} is left, so the decay is dropped.
    """
    left = 1.0 - decay * alpha
    known = tl.abs(left) > EPS
    return tl.where(known, decay, 0.0), tl.where(known, left, 1.0)


@triton.jit
def single(recipe, column: tl.constexpr):
    """A recipe's number in float32."""
    return tl.load(recipe + column).to(tl.float32)


@triton.jit
def moved_elements(recipe, alpha, g, u):
    """Element-wise rates, moved by their rule within their bounds; see `move` of the eager lane."""
    multiplicative = tl.load(recipe + MULTIPLICATIVE) != 0
    beta = single(recipe, BETA)
    sign_g = (g > 0).to(tl.float32) - (g < 0).to(tl.float32)
    sign_u = (u > 0).to(tl.float32) - (u < 0).to(tl.float32)
    cosine = sign_g * sign_u + (g - g) + (u - u)
    h = tl.where(multiplicative, cosine, g * u)
    moved = tl.where(multiplicative, alpha * (1.0 + beta * h), alpha + beta * h)
    low, high = single(recipe, LOW), single(recipe, HIGH)
    bounded = tl.where(moved < low, low, tl.where(moved > high, high, moved))
    return tl.where((tl.abs(moved) <= MOST) & (h != 0), bounded, alpha)


@triton.jit
def _visit_block(
    recipe, numbers, last, after, grad, theta, a, b, alpha, at, left, MASKED: tl.constexpr,
    RATIO: tl.constexpr, HAS_B: tl.constexpr, ELEMENTS: tl.constexpr, BLOCK: tl.constexpr,
):  # fmt: skip
    """Visit a block: return its <g, u>, <g, g> and <u, u>, element by element."""
    sign, l2, reads, a_g, a_a, a_b, b_g, b_b = numbers
    scale, shift, decay, factor = last
    x = read_if(reads, theta + at, left, BLOCK, MASKED)
    g = sign * read(grad + at, left, BLOCK, MASKED) + l2 * x
    m = read(a + at, left, BLOCK, MASKED)
    u = m
    if HAS_B:
        v = read(b + at, left, BLOCK, MASKED)
    if RATIO:
        u = tl.div_rn(m, tl.sqrt_rn(v) * scale + shift)
        if not ELEMENTS:
            u = (u + decay * x) * factor
    if ELEMENTS:
        own = read(alpha + at, left, BLOCK, MASKED)
        if RATIO:
            known_decay, kept = decay_of_last(decay, own)
            u = tl.div_rn(u + known_decay * x, kept)
        own = moved_elements(recipe, own, g, u)
        write(alpha + at, own, left, BLOCK, MASKED)
    gu, gg, uu = g * u, g * g, u * u
    if MASKED:
        inside = tl.arange(0, BLOCK) < left
        gu = tl.where(inside, gu, 0.0)
        uu = tl.where(inside, uu, 0.0)
    # The states' own advance: a <- a_g g + a_a a + a_b b, b <- b_g g (or g g) + b_b b. A factor of
    # zero must drop what may be infinite.
    advanced = a_g * g + tl.where(a_a != 0, a_a * m, 0.0)
    if HAS_B:
        advanced += tl.where(a_b != 0, a_b * v, 0.0)
        v = b_g * (g * g if RATIO else g) + tl.where(b_b != 0, b_b * v, 0.0)
        write(b + at, v, left, BLOCK, MASKED)
    write(a + at, advanced, left, BLOCK, MASKED)
    if ELEMENTS:
        if RATIO:
            scale, shift, decay = after
            advanced = tl.div_rn(advanced, tl.sqrt_rn(v) * scale + shift) + decay * x
        moved = tl.where(single(recipe, DESCENDS) != 0, x - own * advanced, x)
        write(theta + at, moved, left, BLOCK, MASKED)
    return gu, gg, uu


@triton.jit(do_not_specialize=["size_of_chunk"])
def visit(
    rows, recipes, chunks, partials, size_of_chunk,
    G_TYPE: tl.constexpr, THETA_TYPE: tl.constexpr, A_TYPE: tl.constexpr, B_TYPE: tl.constexpr,
    RATE_TYPE: tl.constexpr, RATIO: tl.constexpr, HAS_B: tl.constexpr,
    ELEMENTS: tl.constexpr, NORMS: tl.constexpr,
    ALIGNED: tl.constexpr, BLOCK: tl.constexpr, STAGES: tl.constexpr,
):  # fmt: skip
    """Sum <g_t, u_{t-1}> over a chunk, and advance the states to u_t."""
    chunk = chunks + tl.program_id(0) * CHUNK
    row = rows + tl.load(chunk) * ROW
    recipe = recipes + tl.load(row + ITS_RECIPE) * RECIPE
    grad = pointer_at(row + GRAD, G_TYPE, ALIGNED)
    theta = pointer_at(row + THETA, THETA_TYPE, ALIGNED)
    a = pointer_at(row + A, A_TYPE, ALIGNED)
    b = pointer_at(row + B, B_TYPE, ALIGNED) if HAS_B else a
    alpha = pointer_at(row + ALPHA, RATE_TYPE, ALIGNED and ELEMENTS)
    start, count = extent(row, chunk, size_of_chunk, BLOCK)
    numbers = (
        single(recipe, SIGN),
        single(recipe, L2),
        tl.load(recipe + READS).to(tl.int32) + (1 if ELEMENTS else 0),
        single(recipe, A_G),
        single(recipe, A_A),
        single(recipe, A_B),
        single(recipe, B_G),
        single(recipe, B_B),
    )
    last = (1.0, 0.0, 0.0, 1.0)
    after = (1.0, 0.0, 0.0)
    if RATIO:
        t = tl.load(pointer_at(row + STEP, tl.float32, False)).to(tl.float64)
        scale, shift = adam_scalars(recipe, tl.maximum(t, 1.0))
        decay = tl.where(t > 0, single(recipe, DECAY), 0.0)  # before the first step u_0 = 0
        factor = 1.0
        if not ELEMENTS:
            decay, left = decay_of_last(decay, tl.load(alpha).to(tl.float32))
            factor = tl.div_rn(1.0, left)
        last = (scale, shift, decay, factor)
        if ELEMENTS:
            scale, shift = adam_scalars(recipe, t + 1.0)
            after = (scale, shift, single(recipe, DECAY))
    gu = tl.zeros([BLOCK], tl.float32)
    gg = tl.zeros([BLOCK], tl.float32)
    uu = tl.zeros([BLOCK], tl.float32)
    whole = count // BLOCK
    for k in tl.range(0, whole, num_stages=STAGES):
        one, two, three = _visit_block(
            recipe, numbers, last, after, grad, theta, a, b, alpha, start + k * BLOCK, 0,
            False, RATIO, HAS_B, ELEMENTS, BLOCK,
        )  # fmt: skip
        gu += one
        gg += two
        uu += three
    tail = (count - whole * BLOCK).to(tl.int32)
    if tail > 0:
        one, two, three = _visit_block(
            recipe, numbers, last, after, grad, theta, a, b, alpha, start + whole * BLOCK, tail,
            True, RATIO, HAS_B, ELEMENTS, BLOCK,
        )  # fmt: skip
        gu += one
        gg += two
        uu += three
    if not ELEMENTS:
        sums = partials + tl.load(chunk + 2) * PARTIAL
        tl.store(sums, tl.sum(gu))
        if NORMS:
            tl.store(sums + 1, tl.sum(gg))
            tl.store(sums + 2, tl.sum(uu))


@triton.jit
def _descend_block(
    theta, a, b, at, left, alpha, scale, shift, decay,
    MASKED: tl.constexpr, RATIO: tl.constexpr, BLOCK: tl.constexpr,
):  # fmt: skip
    x = read(theta + at, left, BLOCK, MASKED)
    u = read(a + at, left, BLOCK, MASKED)
    if RATIO:
        v = read(b + at, left, BLOCK, MASKED)
        u = tl.div_rn(u, tl.sqrt_rn(v) * scale + shift) + decay * x
    write(theta + at, x - alpha * u, left, BLOCK, MASKED)


@triton.jit(do_not_specialize=["size_of_chunk"])
def descend(
    rows, recipes, chunks, size_of_chunk,
    THETA_TYPE: tl.constexpr, A_TYPE: tl.constexpr, B_TYPE: tl.constexpr, RATE_TYPE: tl.constexpr,
    RATIO: tl.constexpr, ALIGNED: tl.constexpr, BLOCK: tl.constexpr, STAGES: tl.constexpr,
):  # fmt: skip
    """theta_t = theta_{t-1} - alpha_t u_t over a chunk.

    Chunks are taken from the last to the first: what the visit touched last is still in cache.
    """
    chunk = chunks + (tl.num_programs(0) - 1 - tl.program_id(0)) * CHUNK
    row = rows + tl.load(chunk) * ROW
    recipe = recipes + tl.load(row + ITS_RECIPE) * RECIPE
    theta = pointer_at(row + THETA, THETA_TYPE, ALIGNED)
    a = pointer_at(row + A, A_TYPE, ALIGNED)
    b = pointer_at(row + B, B_TYPE, ALIGNED) if RATIO else a
    alpha = tl.load(pointer_at(row + ALPHA, RATE_TYPE, False)).to(tl.float32)
    start, count = extent(row, chunk, size_of_chunk, BLOCK)
    scale, shift, decay = 1.0, 0.0, 0.0
    if RATIO:
        t = tl.load(pointer_at(row + STEP, tl.float32, False)).to(tl.float64)
        scale, shift = adam_scalars(recipe, tl.maximum(t, 1.0))
        decay = single(recipe, DECAY)
    whole = count // BLOCK
    for k in tl.range(0, whole, num_stages=STAGES):
        at = start + k * BLOCK
        _descend_block(theta, a, b, at, 0, alpha, scale, shift, decay, False, RATIO, BLOCK)
    tail = (count - whole * BLOCK).to(tl.int32)
    if tail > 0:
        at = start + whole * BLOCK
        _descend_block(theta, a, b, at, tail, alpha, scale, shift, decay, True, RATIO, BLOCK)


@triton.jit
def total(partials, first, end, which: tl.constexpr, BLOCK: tl.constexpr):
    """The sum of some chunks' partial sums, in float64, in an order that never changes."""
    sums = tl.zeros([BLOCK], tl.float64)
    for at in range(first, end, BLOCK):
        index = at + tl.arange(0, BLOCK)
        sums += tl.load(partials + index * PARTIAL + which, mask=index < end, other=0.0).to(
            tl.float64
        )
    return tl.sum(sums)


@triton.jit
def add_ones(steps, at, n_steps, BLOCK: tl.constexpr):
    """Add 1 to the step counts whose addresses stand from `at` on."""
    index = at + tl.arange(0, BLOCK)
    mask = index < n_steps
    counts = tl.load(steps + index, mask=mask, other=0).to(tl.pointer_type(tl.float32))
    tl.store(counts, tl.load(counts, mask=mask, other=0.0) + 1.0, mask=mask)


@triton.jit(do_not_specialize=["n_steps"])
def count_steps(steps, n_steps, BLOCK: tl.constexpr):
    """Add 1 to all step counts."""
    add_ones(steps, tl.program_id(0) * BLOCK, n_steps, BLOCK)


@triton.jit
def add_up(pools, partials, sums, NORMS: tl.constexpr, BLOCK: tl.constexpr):
    """Write <g, u>, <g, g>, <u, u> and the number of elements of each pool."""
    pool = pools + tl.program_id(0) * POOL
    out = sums + tl.program_id(0) * TOTAL
    first, end = tl.load(pool), tl.load(pool + 1)
    tl.store(out, total(partials, first, end, 0, BLOCK))
    if NORMS:
        tl.store(out + 1, total(partials, first, end, 1, BLOCK))
        tl.store(out + 2, total(partials, first, end, 2, BLOCK))
    tl.store(out + 3, tl.load(pool + 2).to(tl.float64))


@triton.jit(do_not_specialize=["n_rates", "n_steps"])
def move_rates(
    rates, recipes, pools, partials, sums, steps, n_rates, n_steps,
    RATE_TYPE: tl.constexpr, NORMS: tl.constexpr, SUMMED: tl.constexpr, BLOCK: tl.constexpr,
):  # fmt: skip
    """Move each rate by its rule; the programs after those add 1 to the step counts."""
    program = tl.program_id(0)
    if program < n_rates:
        rate = rates + program * RATE
        recipe = recipes + tl.load(rate + 2) * RECIPE
        which = tl.load(rate + 1)
        pool = pools + which * POOL
        gg = tl.full([], 0.0, tl.float64)
        uu = tl.full([], 0.0, tl.float64)
        if SUMMED:
            gu = tl.load(sums + which * TOTAL)
            gg = tl.load(sums + which * TOTAL + 1)
            uu = tl.load(sums + which * TOTAL + 2)
            count = tl.load(sums + which * TOTAL + 3)
        else:
            first, end = tl.load(pool), tl.load(pool + 1)
            gu = total(partials, first, end, 0, BLOCK)
            if NORMS:
                gg = total(partials, first, end, 1, BLOCK)
                uu = total(partials, first, end, 2, BLOCK)
            count = tl.load(pool + 2).to(tl.float64)
        pointer = pointer_at(rate, RATE_TYPE, False)
        before = tl.load(pointer)
        tl.store(pointer, _moved(recipe, before, gu, gg, uu, count, NORMS))
    else:
        add_ones(steps, (program - n_rates) * BLOCK, n_steps, BLOCK)


@triton.jit
def _moved(recipe, before, gu, gg, uu, count, NORMS: tl.constexpr):
    """alpha_t of a rate; see `move` of the eager lane."""
    alpha = before.to(tl.float64)
    beta = tl.load(recipe + BETA)
    h = tl.where(tl.load(recipe + MEAN) != 0, gu / tl.maximum(count, 1.0), gu)
    moved = alpha + beta * h
    if NORMS:
        norms = tl.sqrt(gg) * tl.sqrt(uu)
        cosine = tl.where(norms == 0, 0.0, gu / tl.where(norms == 0, 1.0, norms))
        cosine = tl.where(cosine > 1, 1.0, tl.where(cosine < -1, -1.0, cosine))
        multiplicative = tl.load(recipe + MULTIPLICATIVE) != 0
        moved = tl.where(multiplicative, alpha * (1.0 + beta * cosine), moved)
    moved = moved.to(before.dtype)
    low, high = tl.load(recipe + LOW).to(before.dtype), tl.load(recipe + HIGH).to(before.dtype)
    bounded = tl.where(moved < low, low, tl.where(moved > high, high, moved))
    return tl.where((tl.abs(moved) <= MOST) & (h != 0), bounded, before)
