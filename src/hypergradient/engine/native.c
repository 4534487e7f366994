/* A step in two passes over all tensors. The first, before the rates move, computes <g_t, u_{t-1}>
   and advances the states, from which u_t follows. The second computes theta_t = theta_{t-1} -
   alpha_t u_t. With the iterate `Average` one pass does both.

   The eager way (hypergradients.py, iterates.py, and torch's kernels) is the reference. Sums are of
   float32 products in 32 lanes over BLOCK elements, then in float64, chunk by chunk. So they do not
   depend on the number of threads. There is one sum for all tensors that share a KernelArgs. */

#include <float.h>
#include <math.h>
#include <stdint.h>
#include <stdlib.h>

/* A row of LANES elements goes through all of a pass at once. What a thread takes at once is a
   chunk: a part in PARTS of all elements, of LEAST to MOST (1 MB: less slows memory down). */
enum { LANES = 32, BLOCK = 1024, PARTS = 64, LEAST = 32 * BLOCK, MOST = 256 * BLOCK };
#define EACH for (int i = 0; i < n; i++)
#define ROW static inline __attribute__((always_inline)) void /* to be vectorized at n = LANES */

typedef struct {
    int64_t size, args; /* the number of its KernelArgs or AverageArgs */
    const float *grad;
    float *theta;
    float *a, *b; /* memory[0] and memory[1]: u_{t-1} and a buffer, or Adam's m and v */
    float *alpha; /* element-wise rates, moved by the additive rule; or null; with an average, z */
    double rms; /* of u_t before it is bounded, which a pass before the average fills in */
} Tensor;

typedef struct {
    double scale, shift, decay, factor;
} Direction; /* u = (a / (scale sqrt(b) + shift) + decay theta) factor */

typedef struct {
    double sign, l2;        /* g = sign grad + l2 theta */
    double ratio;           /* whether u is such a ratio; else it is a */
    Direction before, after;    /* u_{t-1}; u_t, with the factor 1 */
    double a_g, a_a, a_b;   /* a <- a_g g + a_a a + a_b b, where a_a or a_b is 0 */
    double b_g, b_b;        /* b <- b_g g + b_b b, with g g for a ratio, where b_g is not 0 */
    double normalized;      /* sum g g and u u as well */
    double beta, low, high; /* for element-wise rates */
    double descends, alpha; /* whether theta moves here; the rate, where it is one number */
} KernelArgs;

typedef struct {
    double alpha, inverse, c, b; /* the rate; 1 / the learned rate; c_t; the interpolation */
    double memory;               /* of the trace, mu_t */
    double adam, beta2, scale, eps; /* u_t = g_t / (scale sqrt(v) + eps), or g_t */
    double decay, max_rms; /* rms(u_t) before the decay is at most `max_rms`, for a ratio */
} AverageArgs; /* here theta is y, a is the trace, b is v, and alpha is z */

typedef struct {
    double gu, gg, uu;
} Sums;

typedef struct {
    float gu[LANES], gg[LANES], uu[LANES];
} Lanes;

ROW descend(const Tensor *t, const KernelArgs *r, int ratio, int64_t at, int n) {
    float own_u[LANES], *restrict theta = t->theta + at;
    const float *u = t->a + at;
    if (ratio) {
        const float scale = r->after.scale, shift = r->after.shift, decay = r->after.decay;
        const float *m = u, *v = t->b + at;
        EACH own_u[i] = m[i] / (sqrtf(v[i]) * scale + shift);
        if (decay != 0) EACH own_u[i] += decay * theta[i];
        u = own_u;
    }
    if (t->alpha) {
        const float *alpha = t->alpha + at;
        EACH theta[i] -= alpha[i] * u[i];
    } else {
        const float alpha = r->alpha;
        EACH theta[i] -= alpha * u[i];
    }
}

ROW move_elements(float *restrict alpha, const float *g, const float *u, const KernelArgs *r, int n) {
    const float beta = r->beta, low = r->low, high = r->high;
    EACH {
        float h = g[i] * u[i], moved = alpha[i] + beta * h;
        float bounded = moved < low ? low : moved > high ? high : moved;
        alpha[i] = fabsf(moved) <= FLT_MAX && h != 0 ? bounded : alpha[i];
    }
}

ROW advance(float *restrict a, float *restrict b, const float *g, const KernelArgs *r, int ratio,
            int n) {
    const float a_g = r->a_g, a_a = r->a_a, a_b = r->a_b, b_g = r->b_g, b_b = r->b_b;
    if (a_b != 0) EACH a[i] = a_g * g[i] + a_b * b[i];
    else if (a_a == 0) EACH a[i] = a_g * g[i];
    else if (a_g != 0 || a_a != 1) EACH a[i] = a_g * g[i] + a_a * a[i];
    if (b_g != 0 && ratio) EACH b[i] = b_g * (g[i] * g[i]) + b_b * b[i];
    else if (b_g != 0) EACH b[i] = b_g * g[i] + b_b * b[i];
}

ROW accumulate(const Tensor *t, const KernelArgs *r, int ratio, int64_t at, int n, Lanes *lanes) {
    float own_g[LANES], own_u[LANES];
    const float *g = t->grad + at, *theta = t->theta + at, *u = t->a + at;
    if (r->sign != 1 || r->l2 != 0) {
        const float sign = r->sign, l2 = r->l2;
        if (l2 == 0) EACH own_g[i] = sign * g[i]; /* theta may be infinite */
        else EACH own_g[i] = sign * g[i] + l2 * theta[i];
        g = own_g;
    }
    if (ratio) {
        const float scale = r->before.scale, shift = r->before.shift, decay = r->before.decay;
        const float factor = r->before.factor, *m = u, *v = t->b + at;
        EACH own_u[i] = m[i] / (sqrtf(v[i]) * scale + shift);
        if (t->alpha && decay != 0) EACH { /* see adam_direction.py */
            float left = 1 - decay * t->alpha[at + i];
            int told = fabsf(left) > FLT_EPSILON;
            own_u[i] = (own_u[i] + decay * (told ? theta[i] : 0)) / (told ? left : 1);
        }
        else if (decay != 0) EACH own_u[i] = (own_u[i] + decay * theta[i]) * factor;
        u = own_u;
    }
    if (t->alpha) move_elements(t->alpha + at, g, u, r, n);
    else EACH lanes->gu[i] += g[i] * u[i];
    if (r->normalized) EACH {
        lanes->gg[i] += g[i] * g[i];
        lanes->uu[i] += u[i] * u[i];
    }
    advance(t->a + at, t->b ? t->b + at : 0, g, r, ratio, n);
    if (t->alpha && r->descends) descend(t, r, ratio, at, n);
}

static void add_lanes(const Lanes *lanes, Sums *sums) {
    double gu = 0, gg = 0, uu = 0;
    for (int i = 0; i < LANES; i++) {
        gu += lanes->gu[i];
        gg += lanes->gg[i];
        uu += lanes->uu[i];
    }
    sums->gu += gu;
    sums->gg += gg;
    sums->uu += uu;
}

ROW square(const Tensor *t, const AverageArgs *r, int64_t at, int n, Lanes *lanes) {
    const float *g = t->grad + at, *v = t->b + at;
    const float scale = r->scale, eps = r->eps, beta2 = r->beta2, other = 1 - r->beta2;
    EACH {
        float u = g[i] / (sqrtf(beta2 * v[i] + other * (g[i] * g[i])) * scale + eps);
        lanes->uu[i] += u * u;
    }
}

static void square_block(const Tensor *t, const void *args, int64_t at, int64_t end, Sums *sums) {
    const AverageArgs *r = args;
    Lanes lanes = {0}; /* <u_t, u_t> alone */
    const int64_t last = end - LANES;
    if (!r->adam) return;
    for (; at <= last; at += LANES) square(t, r, at, LANES, &lanes);
    if (at < end) square(t, r, at, end - at, &lanes);
    add_lanes(&lanes, sums);
}

ROW average(const Tensor *t, const AverageArgs *r, int adam, int64_t at, int n, Lanes *lanes) {
    const float *g = t->grad + at;
    float own_u[LANES], *restrict y = t->theta + at, *restrict m = t->a + at;
    float *restrict z = t->alpha + at;
    const float alpha = r->alpha, inverse = r->inverse, c = r->c, memory = r->memory;
    const float scale = r->scale, eps = r->eps, decay = r->decay;
    const float quiet = t->rms > r->max_rms ? r->max_rms / t->rms : 1;
    const float b = r->b, rest = 1 - r->b, of_x = r->c / r->b;
    const float beta2 = r->beta2, other = 1 - r->beta2;
    EACH own_u[i] = g[i];
    if (adam) {
        float *restrict v = t->b + at;
        EACH v[i] = beta2 * v[i] + other * (g[i] * g[i]);
        EACH own_u[i] = g[i] / (sqrtf(v[i]) * scale + eps) * quiet;
    }
    if (decay != 0) EACH own_u[i] += decay * y[i];
    EACH {
        float step = -alpha * own_u[i], x = of_x * (z[i] - y[i]) + c * step; /* the move of x */
        lanes->gu[i] += g[i] * m[i];
        z[i] += step;
        y[i] += b * x + rest * step;
        m[i] = memory * (m[i] - inverse * x);
    }
}

static void average_block(const Tensor *t, const void *args, int64_t at, int64_t end,
                          Sums *sums) {
    const AverageArgs *r = args;
    Lanes lanes = {0}; /* <g_t, m_{t-1}> alone */
    const int64_t last = end - LANES;
    if (r->adam) for (; at <= last; at += LANES) average(t, r, 1, at, LANES, &lanes);
    else for (; at <= last; at += LANES) average(t, r, 0, at, LANES, &lanes);
    if (at < end) average(t, r, r->adam != 0, at, end - at, &lanes);
    add_lanes(&lanes, sums);
}

static void descend_block(const Tensor *t, const void *args, int64_t at, int64_t end,
                          Sums *sums) {
    const KernelArgs *r = args;
    (void)sums;
    if (t->alpha || !r->descends) return;
    const int64_t last = end - LANES;
    if (r->ratio) for (; at <= last; at += LANES) descend(t, r, 1, at, LANES);
    else for (; at <= last; at += LANES) descend(t, r, 0, at, LANES);
    if (at < end) descend(t, r, r->ratio != 0, at, end - at);
}

static void accumulate_block(const Tensor *t, const void *args, int64_t at, int64_t end, Sums *sums) {
    const KernelArgs *r = args;
    Lanes lanes = {0};
    const int64_t last = end - LANES;
    if (r->ratio) for (; at <= last; at += LANES) accumulate(t, r, 1, at, LANES, &lanes);
    else for (; at <= last; at += LANES) accumulate(t, r, 0, at, LANES, &lanes);
    if (at < end) accumulate(t, r, r->ratio != 0, at, end - at, &lanes);
    add_lanes(&lanes, sums);
}

typedef struct {
    void (*block)(const Tensor *, const void *args, int64_t at, int64_t end, Sums *);
    size_t args; /* the size of its struct */
} Pass;

static const Pass passes[] = {{accumulate_block, sizeof(KernelArgs)},
                              {descend_block, sizeof(KernelArgs)},
                              {average_block, sizeof(AverageArgs)},
                              {square_block, sizeof(AverageArgs)}};
enum { DESCEND = 1, AVERAGE, SQUARE };

typedef struct {
    Pass pass;
    const Tensor *tensors;
    const char *args;
    const int64_t *first; /* the first chunk of each tensor */
    int64_t count, chunk, chunks, next; /* chunk is the size of one */
    int backward; /* to find in the cache what the pass before it went through last */
    Sums *sums;   /* of each chunk */
} Job;

static void take_chunks(void *argument) {
    Job *job = argument;
    int64_t k;
    while ((k = __atomic_fetch_add(&job->next, 1, __ATOMIC_RELAXED)) < job->chunks) {
        if (job->backward) k = job->chunks - 1 - k;
        int64_t low = 0, high = job->count; /* the tensor that chunk k is of */
        while (high - low > 1) {
            int64_t middle = (low + high) / 2;
            if (job->first[middle] <= k) low = middle;
            else high = middle;
        }
        const Tensor *t = job->tensors + low;
        int64_t at = (k - job->first[low]) * job->chunk;
        int64_t end = t->size - at > job->chunk ? at + job->chunk : t->size;
        Sums sums = {0, 0, 0};
        const void *args = job->args + t->args * job->pass.args;
        for (; at < end; at += BLOCK)
            job->pass.block(t, args, at, end - at > BLOCK ? at + BLOCK : end, &sums);
        job->sums[k] = sums;
    }
}

/* fork(work, argument, threads, 0) runs work in each thread: GOMP_parallel of torch's OpenMP. */
typedef void Fork(void (*)(void *), void *, unsigned, unsigned);

/* Go through all chunks, and fill in their sums. */
static void run(Job *job, int pass, int backward, int threads, Fork *fork) {
    job->pass = passes[pass];
    job->backward = backward;
    job->next = 0;
    if (fork && threads > 1) fork(take_chunks, job, threads, 0);
    else take_chunks(job);
}

static void add_chunks(const Job *job, int64_t i, Sums *sum) { /* of tensor i */
    for (int64_t k = job->first[i]; k < job->first[i + 1]; k++) {
        sum->gu += job->sums[k].gu;
        sum->gg += job->sums[k].gg;
        sum->uu += job->sums[k].uu;
    }
}

/* Fill in the rms of each u_t, by a pass before that of an average. */
static void measure(Job *job, Tensor *tensors, int threads, Fork *fork) {
    int64_t i = 0;
    const AverageArgs *args = (const AverageArgs *)job->args;
    while (i < job->count && !args[tensors[i].args].adam) i++;
    if (i == job->count) return;
    run(job, SQUARE, 0, threads, fork);
    for (i = 0; i < job->count; i++) {
        Sums sum = {0, 0, 0};
        add_chunks(job, i, &sum);
        tensors[i].rms = tensors[i].size ? sqrt(sum.uu / tensors[i].size) : 0;
    }
}

/* Make one pass, and add to the sums, which are zeros before. Pass 0 advances the states; DESCEND
   moves theta; AVERAGE does both for an average. */
int make_pass(int pass, int64_t count, Tensor *tensors, const void *args, Sums *sums, int threads,
              Fork *fork) {
    int64_t *first = malloc((count + 1) * sizeof *first), size = 0;
    if (!first) return 1;
    for (int64_t i = 0; i < count; i++) size += tensors[i].size;
    int64_t chunk = size / PARTS / BLOCK * BLOCK;
    chunk = chunk < LEAST ? LEAST : chunk > MOST ? MOST : chunk;
    first[0] = 0;
    for (int64_t i = 0; i < count; i++)
        first[i + 1] = first[i] + (tensors[i].size + chunk - 1) / chunk;
    Job job = {passes[pass], tensors, args, first, count, chunk, first[count], 0, 0, 0};
    job.sums = malloc((job.chunks + 1) * sizeof *job.sums);
    if (!job.sums) {
        free(first);
        return 1;
    }
    if (size <= LEAST) threads = 1;
    if (pass == AVERAGE) measure(&job, tensors, threads, fork);
    run(&job, pass, pass != 0, threads, fork);
    for (int64_t i = 0; i < count; i++) add_chunks(&job, i, sums + tensors[i].args);
    free(job.sums);
    free(first);
    return 0;
}
