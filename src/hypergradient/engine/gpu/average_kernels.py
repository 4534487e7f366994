"""The kernels of a step on an average (`Average` of iterates.py): one pass over y, g, m, v and z.

For Adam's u_t another pass over g and v goes before it, which sums its squares: u_t is bounded by
its root mean square over the whole parameter. The columns of a parameter's row are those of
kernels.py, with y for theta, m (the trace of directions) for a, v for b and z for the rate.
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
    SIZE,
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
SHARE, LOG_BETA2, OF_V, OF_G, EPS, DECAY, GROUP, MAX_RMS = (tl.constexpr(n) for n in range(8))
SCALARS = tl.constexpr(4)  # of a group: alpha_t, the learned rate, c_t, mu_t


@triton.jit
def _squares(grad, v, at, left, numbers, MASKED: tl.constexpr, BLOCK: tl.constexpr):
    """The squares of u_t in a block."""
    scale, eps, of_v, of_g = numbers
    g = read(grad + at, left, BLOCK, MASKED)
    second = of_v * read(v + at, left, BLOCK, MASKED) + of_g * (g * g)
    u = tl.div_rn(g, tl.sqrt_rn(second) * scale + eps)
    return tl.where(tl.arange(0, BLOCK) < left, u * u, 0.0) if MASKED else u * u


@triton.jit
def _adam(row, recipe):
    """The numbers of u_t = g_t / (scale sqrt(v_t) + eps), v_t = of_v v_{t-1} + of_g g_t^2."""
    t = (tl.load(pointer_at(row + STEP, tl.float32, False)) + 1.0).to(tl.float64)
    bias = 1.0 - tl.exp(tl.load(recipe + LOG_BETA2) * t)
    scale = (1.0 / tl.sqrt(bias)).to(tl.float32)
    return scale, single(recipe, EPS), single(recipe, OF_V), single(recipe, OF_G)


@triton.jit(do_not_specialize=["size_of_chunk"])
def square(
    rows, recipes, chunks, partials, size_of_chunk, ALIGNED: tl.constexpr, BLOCK: tl.constexpr,
    STAGES: tl.constexpr,
):  # fmt: skip
    """The part of <u_t, u_t> of a chunk."""
    chunk = chunks + tl.program_id(0) * CHUNK
    row = rows + tl.load(chunk) * ROW
    grad = pointer_at(row + GRAD, tl.float32, ALIGNED)
    v = pointer_at(row + B, tl.float32, ALIGNED)
    start, elements = extent(row, chunk, size_of_chunk, BLOCK)
    numbers = _adam(row, recipes + tl.load(row + ITS_RECIPE) * RECIPE)
    uu = tl.zeros([BLOCK], tl.float32)
    whole = elements // BLOCK
    for k in tl.range(0, whole, num_stages=STAGES):
        uu += _squares(grad, v, start + k * BLOCK, 0, numbers, False, BLOCK)
    tail = (elements - whole * BLOCK).to(tl.int32)
    if tail > 0:
        uu += _squares(grad, v, start + whole * BLOCK, tail, numbers, True, BLOCK)
    tl.store(partials + tl.load(chunk + 2) * PARTIAL + 2, tl.sum(uu))


@triton.jit
def _quiet(row, chunk, partials, max_rms, size_of_chunk, BLOCK: tl.constexpr):
    """What u_t is multiplied by: max_rms / rms(u_t), or 1 if that is less.

    The sums of a parameter's chunks lie side by side, and all programs add them up alike.
    """
    size = tl.load(row + SIZE)
    first = tl.load(chunk + 2) - (tl.load(chunk + 1).to(tl.int64) * BLOCK) // size_of_chunk
    count = (size + size_of_chunk - 1) // size_of_chunk
    total = tl.zeros([BLOCK], tl.float32)
    for k in tl.range(0, count, BLOCK):
        index = k + tl.arange(0, BLOCK)
        total += tl.load(partials + (first + index) * PARTIAL + 2, mask=index < count, other=0.0)
    rms = tl.sqrt_rn(tl.div_rn(tl.sum(total), size.to(tl.float32)))
    return tl.where(rms > max_rms, tl.div_rn(max_rms, rms), 1.0)


@triton.jit
def _average_block(
    numbers, grad, y, m, v, z, at, left, MASKED: tl.constexpr, ADAM: tl.constexpr,
    BLOCK: tl.constexpr,
):  # fmt: skip
    """Move a block, and return <g_t, m_{t-1}>, element by element."""
    alpha, inverse, c, b, mu, decay, (scale, eps, of_v, of_g), quiet = numbers
    g = read(grad + at, left, BLOCK, MASKED)
    here = read(y + at, left, BLOCK, MASKED)
    trace = read(m + at, left, BLOCK, MASKED)
    far = read(z + at, left, BLOCK, MASKED)
    u = g
    if ADAM:
        second = of_v * read(v + at, left, BLOCK, MASKED) + of_g * (g * g)
        write(v + at, second, left, BLOCK, MASKED)
        u = tl.div_rn(g, tl.sqrt_rn(second) * scale + eps) * quiet
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
    adam, quiet = (1.0, 0.0, 0.0, 0.0), 1.0
    if ADAM:
        adam = _adam(row, recipe)
        quiet = _quiet(row, chunk, partials, single(recipe, MAX_RMS), size_of_chunk, BLOCK)
    numbers = (
        tl.load(own),
        tl.div_rn(1.0, tl.load(own + 1)),
        c,
        single(recipe, SHARE),
        tl.load(own + 3),
        single(recipe, DECAY),
        adam,
        quiet,
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
    tl.store(sums, tl.sum(gm))  # this rule needs no norms; other programs read <u_t, u_t>
