/* One pass over all tensors of a step, each read once: <g_t, u_{t-1}>, and u_t where it is kept.

   The eager way (products.py) is the reference. Sums are of float32 products in 32 lanes over BLOCK
   elements, then in float64 in the order of memory: they do not depend on the number of threads. */

#include <float.h>
#include <math.h>
#include <stdint.h>
#include <stdlib.h>

enum { BLOCK = 1024, CHUNK = 32 * BLOCK, LANES = 32 }; /* CHUNK: what a thread takes at a time */

typedef struct {
    int64_t size, recipe;
    const float *grad, *theta;
    float *a, *b; /* memory[0] and memory[1]: u_{t-1} and a buffer, or Adam's m and v */
    float *alpha; /* element-wise rates, moved by the additive rule; or null */
} Tensor;

typedef struct {
    double sign, l2;                           /* g = sign grad + l2 theta */
    double ratio, scale, shift, decay, factor; /* u = a, or (a/(scale sqrt(b)+shift) + decay theta) factor */
    double keeps, keep_g, keep_b;              /* a <- keep_g g + keep_b b */
    double normalized;                         /* sum g g and u u as well */
    double beta, low, high;                    /* for element-wise rates */
} Recipe;

typedef struct {
    double gu, gg, uu;
} Sums;

typedef struct {
    const Tensor *tensors;
    const Recipe *recipes;
    const int64_t *first; /* the first chunk of each tensor */
    int64_t count, chunks, next;
    Sums *sums; /* of each chunk */
} Job;

static double dot(const float *restrict x, const float *restrict y, int64_t n) {
    float lanes[LANES] = {0};
    double sum = 0;
    int64_t i = 0;
    for (; i + LANES <= n; i += LANES)
        for (int j = 0; j < LANES; j++) lanes[j] += x[i + j] * y[i + j];
    for (; i < n; i++) sum += x[i] * y[i];
    for (int j = 0; j < LANES; j++) sum += lanes[j];
    return sum;
}

static void move_elements(float *restrict alpha, const float *g, const float *u, const Recipe *r,
                          int64_t n) {
    const float beta = r->beta, low = r->low, high = r->high;
    for (int64_t i = 0; i < n; i++) {
        float h = g[i] * u[i], moved = alpha[i] + beta * h;
        float bounded = moved < low ? low : moved > high ? high : moved;
        alpha[i] = fabsf(moved) <= FLT_MAX && h != 0 ? bounded : alpha[i];
    }
}

static void visit_block(const Tensor *t, const Recipe *r, int64_t at, int64_t n, Sums *sums) {
    float own_g[BLOCK], own_u[BLOCK]; /* in the first level of cache */
    const float *g = t->grad + at, *theta = t->theta + at, *u = t->a + at, *b = t->b ? t->b + at : 0;
    if (r->sign != 1 || r->l2 != 0) {
        const float sign = r->sign, l2 = r->l2;
        for (int64_t i = 0; i < n; i++) own_g[i] = sign * g[i] + l2 * theta[i];
        g = own_g;
    }
    if (r->ratio) {
        const float scale = r->scale, shift = r->shift, decay = r->decay, factor = r->factor;
        const float *m = u;
        if (t->alpha && decay != 0)
            for (int64_t i = 0; i < n; i++) { /* see Ratio of visits.py */
                float left = 1 - decay * t->alpha[at + i];
                int told = fabsf(left) > FLT_EPSILON;
                float ratio = m[i] / (sqrtf(b[i]) * scale + shift);
                own_u[i] = (ratio + decay * (told ? theta[i] : 0)) / (told ? left : 1);
            }
        else if (decay == 0)
            for (int64_t i = 0; i < n; i++) own_u[i] = m[i] / (sqrtf(b[i]) * scale + shift);
        else
            for (int64_t i = 0; i < n; i++)
                own_u[i] = (m[i] / (sqrtf(b[i]) * scale + shift) + decay * theta[i]) * factor;
        u = own_u;
    }
    if (t->alpha) move_elements(t->alpha + at, g, u, r, n);
    else sums->gu += dot(g, u, n);
    if (r->normalized) {
        sums->gg += dot(g, g, n);
        sums->uu += dot(u, u, n);
    }
    if (r->keeps) {
        float *restrict kept = t->a + at;
        const float keep_g = r->keep_g, keep_b = r->keep_b;
        if (keep_b == 0)
            for (int64_t i = 0; i < n; i++) kept[i] = keep_g * g[i];
        else
            for (int64_t i = 0; i < n; i++) kept[i] = keep_g * g[i] + keep_b * b[i];
    }
}

static void visit_chunks(void *argument) {
    Job *job = argument;
    int64_t k;
    while ((k = __atomic_fetch_add(&job->next, 1, __ATOMIC_RELAXED)) < job->chunks) {
        int64_t low = 0, high = job->count; /* the tensor that chunk k is of */
        while (high - low > 1) {
            int64_t middle = (low + high) / 2;
            if (job->first[middle] <= k) low = middle;
            else high = middle;
        }
        const Tensor *t = job->tensors + low;
        int64_t at = (k - job->first[low]) * CHUNK;
        int64_t end = t->size - at > CHUNK ? at + CHUNK : t->size;
        Sums sums = {0, 0, 0};
        for (; at < end; at += BLOCK)
            visit_block(t, job->recipes + t->recipe, at, end - at > BLOCK ? BLOCK : end - at, &sums);
        job->sums[k] = sums;
    }
}

/* fork(work, argument, threads, 0) runs work in each thread: GOMP_parallel of torch's OpenMP. */
int visit_all(int64_t count, const Tensor *tensors, const Recipe *recipes, Sums *sums, int threads,
              void (*fork)(void (*)(void *), void *, unsigned, unsigned)) {
    int64_t *first = malloc((count + 1) * sizeof *first);
    if (!first) return 1;
    first[0] = 0;
    for (int64_t i = 0; i < count; i++)
        first[i + 1] = first[i] + (tensors[i].size + CHUNK - 1) / CHUNK;
    Job job = {tensors, recipes, first, count, first[count], 0, 0};
    job.sums = malloc((job.chunks + 1) * sizeof *job.sums);
    if (!job.sums) {
        free(first);
        return 1;
    }
    if (fork && threads > 1 && job.chunks > 1) fork(visit_chunks, &job, threads, 0);
    else visit_chunks(&job);
    for (int64_t i = 0; i < count; i++) {
        sums[i] = (Sums){0, 0, 0};
        for (int64_t k = first[i]; k < first[i + 1]; k++) {
            sums[i].gu += job.sums[k].gu;
            sums[i].gg += job.sums[k].gg;
            sums[i].uu += job.sums[k].uu;
        }
    }
    free(job.sums);
    free(first);
    return 0;
}
