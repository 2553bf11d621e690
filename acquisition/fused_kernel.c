/* Sums over MC samples, straight from logits: bilinear interpolation, softmax, entropy and votes of one block of
   pixels while it is in registers and first-level cache. Plain C; the compiler vectorises the loops over pixels. */
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#define BLOCK 64
#define EACH for (int i = 0; i < BLOCK; i++)

typedef struct {
    long samples, units, classes, height, width;
    long sample_stride, unit_stride, class_stride, row_stride, pixel_stride; /* of the logits, in numbers */
    const int32_t *upper, *lower; /* for each output row, its two input rows */
    const float *down;            /* and the weight of the lower */
    const int32_t *left, *right;  /* the same for columns; NULL where the input has the output's size */
    const float *across;
    const float *logits;
    float *mean, *entropy, *squares, *votes; /* sums; NULL where nobody asks */
} Task;

/* e^x for x <= 0, relative error below 2e-7; 0 below -87. NaN stays NaN. */
static inline float exp_negative(float x) {
    float clamped = x < -87.0f ? -87.0f : x;
    float n = clamped * 1.44269504f + 12582912.0f;
    int32_t bits;
    memcpy(&bits, &n, 4);
    n -= 12582912.0f;
    float r = clamped - n * 0.693359375f + n * 2.12194440e-4f;
    float p = 1.9875691500e-4f;
    p = p * r + 1.3981999507e-3f;
    p = p * r + 8.3334519073e-3f;
    p = p * r + 4.1665795894e-2f;
    p = p * r + 1.6666665459e-1f;
    p = p * r + 5.0000001201e-1f;
    p = p * r * r + r + 1.0f;
    int32_t power = (int32_t)((uint32_t)(bits + 127) << 23);
    float scale;
    memcpy(&scale, &power, 4);
    return x < -87.0f ? 0.0f : p * scale;
}

/* Natural logarithm of x >= 1, absolute error below 3e-7. */
static inline float log_positive(float x) {
    int32_t bits;
    memcpy(&bits, &x, 4);
    int32_t exponent = (bits - 0x3f3504f3) >> 23;
    int32_t mantissa = bits - (int32_t)((uint32_t)exponent << 23);
    float m;
    memcpy(&m, &mantissa, 4);
    float s = (m - 1.0f) / (m + 1.0f), q = s * s;
    float series = 2.0f * s * (1.0f + q * (0.333333333f + q * (0.2f + q * (0.142857143f + q * 0.111111111f))));
    float log_x = series + (float)exponent * 0.693147181f;
    return x == x ? log_x : x;
}

/* One input row at the output's width, stored block by block (classes x BLOCK each, `apart` numbers apart): rows a
   power of two apart would fall into the same few sets of the cache. */
static void widen(float *restrict to, long apart, const float *restrict from, const Task *task) {
    const long width = task->width, step = task->pixel_stride;
    for (long x0 = 0; x0 < width; x0 += BLOCK, to += apart)
        for (long c = 0; c < task->classes; c++) {
            const float *row = from + c * task->class_stride, *across = task->across + x0;
            const int32_t *left = task->left + x0, *right = task->right + x0;
            const long n = width - x0 < BLOCK ? width - x0 : BLOCK;
            for (long i = 0; i < n; i++) {
                float a = row[left[i] * step], b = row[right[i] * step];
                to[c * BLOCK + i] = a + across[i] * (b - a);
            }
            for (long i = n; i < BLOCK; i++) to[c * BLOCK + i] = 0;
        }
}

/* One block of pixels of one sample: logits z (classes x BLOCK) become exp(z - max); sum gets 1 / their sum,
   entropy the entropy and best the first of the largest. */
static inline void softmax_block(float *restrict z, long classes, float *restrict sum, float *restrict entropy,
                                 int32_t *restrict best) {
    float largest[BLOCK];
    EACH { largest[i] = z[i]; best[i] = 0; sum[i] = 0; entropy[i] = 0; }
    for (int32_t c = 1; c < classes; c++) {
        const float *zc = z + c * BLOCK;
        EACH { best[i] = zc[i] > largest[i] ? c : best[i]; largest[i] = zc[i] > largest[i] ? zc[i] : largest[i]; }
    }
    for (long c = 0; c < classes; c++) {
        float *zc = z + c * BLOCK;
        EACH {
            float shifted = zc[i] - largest[i], e = exp_negative(shifted);
            sum[i] += e;
            entropy[i] -= e * (shifted < -88.0f ? -88.0f : shifted);
            zc[i] = e;
        }
    }
    EACH { float inverse = 1.0f / sum[i]; entropy[i] = log_positive(sum[i]) + entropy[i] * inverse; sum[i] = inverse; }
}

static int add_rows(const Task *task, long unit, long first, long last) {
    const long C = task->classes, width = task->width, plane = task->height * width, size = C * BLOCK;
    const long samples = task->samples, blocks = (width + BLOCK - 1) / BLOCK;
    const int resize = task->left != NULL;
    const float *logits = task->logits + unit * task->unit_stride;
    float *z = malloc(sizeof(float) * size * 4), *mean = z + size, *squares = mean + size, *votes = squares + size;
    float *rows = resize ? malloc(sizeof(float) * blocks * samples * 2 * size) : NULL;
    long *held = resize ? malloc(sizeof(long) * samples * 2) : NULL;
    if (!z || (resize && (!rows || !held))) { free(z); free(rows); free(held); return 1; }
    for (long i = 0; resize && i < samples * 2; i++) held[i] = -1;
    for (long y = first; y < last; y++) {
        for (long s = 0; resize && s < samples; s++)
            for (int side = 0; side < 2; side++) {
                const long want = side ? task->lower[y] : task->upper[y], slot = s * 2 + (want & 1);
                if (held[slot] == want) continue;
                held[slot] = want;
                widen(rows + slot * size, samples * 2 * size,
                      logits + s * task->sample_stride + want * task->row_stride, task);
            }
        for (long block = 0; block < blocks; block++) {
            const long x0 = block * BLOCK, n = width - x0 < BLOCK ? width - x0 : BLOCK, at = y * width + x0;
            float entropies[BLOCK] = {0};
            memset(mean, 0, sizeof(float) * size * 3);
            for (long s = 0; s < samples; s++) {
                float inverse[BLOCK], entropy[BLOCK];
                int32_t best[BLOCK];
                if (resize) {
                    const float *a = rows + ((block * samples + s) * 2 + (task->upper[y] & 1)) * size;
                    const float *b = rows + ((block * samples + s) * 2 + (task->lower[y] & 1)) * size;
                    const float w = task->down[y];
                    for (long i = 0; i < size; i++) z[i] = a[i] + w * (b[i] - a[i]);
                } else {
                    const long step = task->pixel_stride;
                    const float *from = logits + s * task->sample_stride + y * task->row_stride + x0 * step;
                    for (long c = 0; c < C; c++, from += task->class_stride) {
                        if (step == 1) memcpy(z + c * BLOCK, from, sizeof(float) * n);
                        else for (long i = 0; i < n; i++) z[c * BLOCK + i] = from[i * step];
                        for (long i = n; i < BLOCK; i++) z[c * BLOCK + i] = 0;
                    }
                }
                softmax_block(z, C, inverse, entropy, best);
                EACH entropies[i] += entropy[i];
                if (task->mean) for (long c = 0; c < size; c += BLOCK) EACH mean[c + i] += z[c + i] * inverse[i];
                if (task->squares)
                    for (long c = 0; c < size; c += BLOCK)
                        EACH { float p = z[c + i] * inverse[i]; squares[c + i] += p * p; }
                if (task->votes)
                    for (int32_t c = 0; c < C; c++) EACH votes[c * BLOCK + i] += best[i] == c;
            }
            if (task->entropy) for (long i = 0; i < n; i++) task->entropy[unit * plane + at + i] += entropies[i];
            for (long c = 0; c < C; c++) {
                const long to = (unit * C + c) * plane + at;
                if (task->mean) for (long i = 0; i < n; i++) task->mean[to + i] += mean[c * BLOCK + i];
                if (task->squares) for (long i = 0; i < n; i++) task->squares[to + i] += squares[c * BLOCK + i];
                if (task->votes) for (long i = 0; i < n; i++) task->votes[to + i] += votes[c * BLOCK + i];
            }
        }
    }
    free(z); free(rows); free(held);
    return 0;
}

/* Add every sample of every unit to the sums. Returns 0, or 1 where memory ran out. */
int add_samples(const Task *task, int threads) {
    const long bands = task->height < 8 ? 1 : 8;
    int failed = 0;
#pragma omp parallel for collapse(2) schedule(dynamic) num_threads(threads) reduction(| : failed)
    for (long unit = 0; unit < task->units; unit++)
        for (long band = 0; band < bands; band++)
            failed |= add_rows(task, unit, task->height * band / bands, task->height * (band + 1) / bands);
    return failed;
}
