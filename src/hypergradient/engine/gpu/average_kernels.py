"""The kernel of a step on an average (`Average` of iterates.py): one pass over y, g, m, v and z.

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
    PARTIAL,
    ROW,
    STEP,
    THETA,
    A,
    B,
    extent,
    pointer_at,
    read,
    single,
    write,
)
from hypergradient.engine.gpu.recipes import AverageNumbers

RECIPE = tl.constexpr(len(AverageNumbers._fields))
# columns of a recipe
SHARE, LOG_BETA2, OF_V, OF_G, EPS, DECAY, GROUP, LARGEST = (tl.constexpr(n) for n in range(8))
SCALARS = tl.constexpr(4)  # of a group: alpha_t, the learned rate, c_t, mu_t


@triton.jit
def _average_block(
    numbers, grad, y, m, v, z, at, left, MASKED: tl.constexpr, ADAM: tl.constexpr,
    BLOCK: tl.constexpr,
):  # fmt: skip
    """Move a block, and return <g_t, m_{t-1}>, element by element."""
    alpha, inverse, c, b, mu, scale, eps, decay, of_v, of_g, largest = numbers
    g = read(grad + at, left, BLOCK, MASKED)
    here = read(y + at, left, BLOCK, MASKED)
    trace = read(m + at, left, BLOCK, MASKED)
    far = read(z + at, left, BLOCK, MASKED)
    u = g
    if ADAM:
        second = of_v * read(v + at, left, BLOCK, MASKED) + of_g * (g * g)
        write(v + at, second, left, BLOCK, MASKED)
        u = tl.div_rn(g, tl.sqrt_rn(second) * scale + eps)
        u = tl.where(u > largest, largest, tl.where(u < -largest, -largest, u))  # NaN stays
    u += decay * here
    step = -alpha * u
    of_x = (c / b) * (far - here) + c * step
    write(z + at, far + step, left, BLOCK, MASKED)
    write(y + at, here + (b * of_x + (1.0 - b) * step), left, BLOCK, MASKED)
    write(m + at, mu * (trace - inverse * of_x), left, BLOCK, MASKED)
    return g * trace


@triton.jit(do_not_specialize=["size_of_chunk"])
def average(
    rows, recipes, scalars, chunks, partials, size_of_chunk, ADAM: tl.constexpr,
    ALIGNED: tl.constexpr, BLOCK: tl.constexpr, STAGES: tl.constexpr,
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
    own = scalars + tl.load(recipe + GROUP).to(tl.int32) * SCALARS
    c = tl.load(own + 2)
    scale = 1.0
    if ADAM:
        t = (tl.load(pointer_at(row + STEP, tl.float32, False)) + 1.0).to(tl.float64)
        bias = 1.0 - tl.exp(tl.load(recipe + LOG_BETA2) * t)
        scale = (1.0 / tl.sqrt(bias)).to(tl.float32)
    numbers = (
        tl.load(own),
        tl.div_rn(1.0, tl.load(own + 1)),
        c,
        single(recipe, SHARE),
        tl.load(own + 3),
        scale,
        single(recipe, EPS),
        single(recipe, DECAY),
        single(recipe, OF_V),
        single(recipe, OF_G),
        single(recipe, LARGEST),
    )
    gm = tl.zeros([BLOCK], tl.float32)
    whole = elements // BLOCK
    for k in tl.range(0, whole, num_stages=STAGES):
        at = start + k * BLOCK
        gm += _average_block(numbers, grad, y, m, v, z, at, 0, False, ADAM, BLOCK)
    tail = (elements - whole * BLOCK).to(tl.int32)
    if tail > 0:
        at = start + whole * BLOCK
        gm += _average_block(numbers, grad, y, m, v, z, at, tail, True, ADAM, BLOCK)
    sums = partials + tl.load(chunk + 2) * PARTIAL
    tl.store(sums, tl.sum(gm))
    tl.store(sums + 1, 0.0)  # the norms, which this rule does not need
    tl.store(sums + 2, 0.0)
