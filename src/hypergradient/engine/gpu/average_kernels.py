"""The kernels of `Untuned`: one pass over y, g, m, v and z, then its rate.

The columns of a parameter's row are those of kernels.py, with y for theta, m (the trace of
directions) for a, v for b and z for the rate.
"""

import triton
import triton.language as tl

from hypergradient.engine.gpu.kernels import ALPHA as Z
from hypergradient.engine.gpu.kernels import (
    CHUNK,
    GRAD,
    ITS_RECIPE,
    MOST,
    PARTIAL,
    ROW,
    STEP,
    THETA,
    A,
    B,
    add_one,
    extent,
    pointer_at,
    read,
    single,
    total,
    write,
)
from hypergradient.engine.gpu.recipes import AverageNumbers

RECIPE = tl.constexpr(len(AverageNumbers._fields))
# columns of a recipe
BETA, LOG_BETA2, OF_V, OF_G, EPS, DECAY = (tl.constexpr(n) for n in range(6))
# and of the rule
ETA, SLOWING, RISING_ETA, SPREAD, SPREAD_SHARE, OUTLIER, FLOOR, POWER = (
    tl.constexpr(n) for n in range(8)
)
MEMORY, MEMORY_SHARE, OF_AVERAGE = (tl.constexpr(n) for n in range(8, 11))


@triton.jit
def _average_block(
    numbers, grad, y, m, v, z, at, left, MASKED: tl.constexpr, ADAM: tl.constexpr,
    BLOCK: tl.constexpr,
):  # fmt: skip
    """Move a block, and return its <g_t, m_{t-1}>, element by element."""
    alpha, inverse, c, of_step, gap_in_m, step_in_m, mu, scale, eps, decay, of_v, of_g = numbers
    g = read(grad + at, left, BLOCK, MASKED)
    here = read(y + at, left, BLOCK, MASKED)
    trace = read(m + at, left, BLOCK, MASKED)
    far = read(z + at, left, BLOCK, MASKED)
    u = g
    if ADAM:
        second = of_v * read(v + at, left, BLOCK, MASKED) + of_g * (g * g)
        write(v + at, second, left, BLOCK, MASKED)
        u = tl.div_rn(g, tl.sqrt_rn(second) * scale + eps)
    step = -alpha * (u + decay * here)
    gap = far - here
    write(z + at, far + step, left, BLOCK, MASKED)
    write(y + at, here + (c * gap + of_step * step), left, BLOCK, MASKED)
    moved = gap_in_m * gap + step_in_m * step
    write(m + at, mu * (trace + inverse * moved), left, BLOCK, MASKED)
    return g * trace


@triton.jit(do_not_specialize=["size_of_chunk"])
def average(
    rows, recipes, rule, chunks, partials, size_of_chunk, lr, weight, count,
    ADAM: tl.constexpr, ALIGNED: tl.constexpr, BLOCK: tl.constexpr, STAGES: tl.constexpr,
):  # fmt: skip
    """z_t, y_t, v_t and m_t over a chunk, and its part of <g_t, m_{t-1}>."""
    chunk = chunks + tl.program_id(0) * CHUNK
    row = rows + tl.load(chunk) * ROW
    recipe = recipes + tl.load(row + ITS_RECIPE) * RECIPE
    grad = pointer_at(row + GRAD, tl.float32, ALIGNED)
    y = pointer_at(row + THETA, tl.float32, ALIGNED)
    m = pointer_at(row + A, tl.float32, ALIGNED)
    v = pointer_at(row + B, tl.float32, ALIGNED) if ADAM else m
    z = pointer_at(row + Z, tl.float32, ALIGNED)
    start, elements = extent(row, chunk, size_of_chunk, BLOCK)
    alpha = tl.load(lr)
    c = tl.div_rn(1.0, tl.load(weight))
    b = single(recipe, BETA)
    of_step = 1.0 - b * (1.0 - c)  # y_t - y_{t-1} = c (z - y) + of_step (z_t - z_{t-1})
    of_average = (
        tl.load(rule + OF_AVERAGE) != 0
    )  # x_t - x_{t-1} = c / b (z - y) + c (z_t - z_{t-1})
    gap_in_m = tl.where(of_average, tl.div_rn(c, b), c)
    step_in_m = tl.where(of_average, c, of_step)
    t = (tl.load(count) + 1.0).to(tl.float64)  # of the rate; a parameter may have come later
    horizon = tl.maximum(1.0 / (1.0 - tl.load(rule + MEMORY)), tl.load(rule + MEMORY_SHARE) * t)
    mu = (1.0 - 1.0 / horizon).to(tl.float32)
    scale = 1.0
    if ADAM:
        own_t = (tl.load(pointer_at(row + STEP, tl.float32, False)) + 1.0).to(tl.float64)
        bias = 1.0 - tl.exp(tl.load(recipe + LOG_BETA2) * own_t)
        scale = (1.0 / tl.sqrt(bias)).to(tl.float32)
    numbers = (
        alpha,
        tl.div_rn(1.0, alpha),
        c,
        of_step,
        gap_in_m,
        step_in_m,
        mu,
        scale,
        single(recipe, EPS),
        single(recipe, DECAY),
        single(recipe, OF_V),
        single(recipe, OF_G),
    )
    products = tl.zeros([BLOCK], tl.float32)
    whole = elements // BLOCK
    for k in tl.range(0, whole, num_stages=STAGES):
        at = start + k * BLOCK
        products += _average_block(numbers, grad, y, m, v, z, at, 0, False, ADAM, BLOCK)
    tail = (elements - whole * BLOCK).to(tl.int32)
    if tail > 0:
        at = start + whole * BLOCK
        products += _average_block(numbers, grad, y, m, v, z, at, tail, True, ADAM, BLOCK)
    tl.store(partials + tl.load(chunk + 2) * PARTIAL, tl.sum(products))


@triton.jit(do_not_specialize=["n_partials", "n_steps"])
def move_rate(
    rule, partials, steps, lr, relative, spread, weight, rising, count, n_partials, n_steps,
    BLOCK: tl.constexpr,
):  # fmt: skip
    """alpha_{t+1} = alpha_t exp(eta_t clip(h_t / E|h|, -1, 1)); see `_move_rate` of untuned.py.

    The first program moves the rate; the others add 1 to the parameters' step counts.
    """
    if tl.program_id(0) > 0:
        add_one(steps, (tl.program_id(0) - 1) * BLOCK, n_steps, BLOCK)
    else:
        t = tl.load(count).to(tl.float64) + 1.0
        alpha = tl.load(lr).to(tl.float64)
        h = -alpha * total(partials, 0, n_partials, 0, BLOCK)
        h = tl.where(tl.abs(h) <= MOST, h, 0.0)
        mean = tl.load(spread).to(tl.float64)
        size, most = tl.abs(h), tl.load(rule + OUTLIER) * mean
        size = tl.where((most > 0) & (size > most), most, size)
        over = tl.minimum(t - 1.0, tl.load(rule + SPREAD))
        over = tl.maximum(tl.maximum(over, tl.load(rule + SPREAD_SHARE) * t), 1.0)
        mean += (size - mean) / over
        signal = h / tl.where(mean > 0, mean, 1.0)
        signal = tl.where(signal > 1, 1.0, tl.where(signal < -1, -1.0, signal))
        still_rising = tl.where(h >= 0, tl.load(rising).to(tl.float64), 0.0)
        eta = tl.minimum(tl.load(rule + ETA), tl.load(rule + SLOWING) / t)
        eta += (tl.load(rule + RISING_ETA) - eta) * still_rising
        before = tl.load(relative).to(tl.float64)
        moved = tl.maximum(before * tl.exp(eta * signal), tl.load(rule + FLOOR))
        raised = tl.maximum(moved, 1.0)  # the largest rate over the largest before
        # 1 / c_t = sum of all weights / the last one, for weights t^3 (largest rate)^2
        kept = tl.exp(tl.load(rule + POWER) * tl.log(t / (t + 1.0))) / (raised * raised)
        heaviness = 1.0 + tl.load(weight).to(tl.float64) * kept
        tl.store(lr, (alpha * (moved / before)).to(tl.float32))
        tl.store(relative, (moved / raised).to(tl.float32))
        tl.store(spread, mean.to(tl.float32))
        tl.store(weight, heaviness.to(tl.float32))
        tl.store(rising, still_rising.to(tl.float32))
        tl.store(count, t.to(tl.float32))
