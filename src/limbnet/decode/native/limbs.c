/* Limb candidates; see limbnet/decode/limbs.py for what is computed and why. */
#include "kernels.h"

#include <math.h>
#include <stdlib.h>

/* Cells that repeat the edge on every side of a field: what cubic interpolation reaches beyond it. */
enum { PAD = 2 };

/* Lays out one limb's field (2, height, width) as (height + 4, width + 4, 2), its edge repeated. */
static void interleave(const float *paf, index_t height, index_t width, float *field) {
    for (index_t r = -PAD; r < height + PAD; r++) {
        const float *x = paf + clamped(r, height) * width, *y = x + height * width;
        for (index_t c = -PAD; c < 0; c++, field += 2) field[0] = x[0], field[1] = y[0];
        for (index_t c = 0; c < width; c++) field[2 * c] = x[c], field[2 * c + 1] = y[c];
        field += 2 * width;
        for (index_t c = 0; c < PAD; c++, field += 2) field[0] = x[width - 1], field[1] = y[width - 1];
    }
}

/* What one limb's pairs are sampled from. */
typedef struct {
    const float *field;            /* (height + 4, width + 4, 2) */
    size_t row;                    /* floats from one row to the next */
    float last_column, last_row;   /* eighths of a cell */
    const float *down;             /* (POINTS, TAPS) weights of rows */
    float right[POINTS][2 * TAPS]; /* weights of columns, each twice: for x and for y */
} sampler;

/* Rounds to the eighth of a cell, within the field; what is not a number becomes 0. */
static size_t eighth(float place, float last) {
    place = place > 0 ? place : 0;
    return (size_t)lrintf(place < last ? place : last);
}

/* The dot product of the field with a vector, at a point in eighths of a cell. */
static float along(const sampler *from, float x, float y, const float vector[2]) {
    /* Point p lies (2 p - 7) / 16 cells from the centre of cell 0; 16 more keep it from being negative. */
    size_t sixteenths_x = 2 * eighth(x, from->last_column) + 9, sixteenths_y = 2 * eighth(y, from->last_row) + 9;
    const float *row = from->field + sixteenths_y / 16 * from->row + sixteenths_x / 16 * 2;
    const float *right = from->right[sixteenths_x % 16 / 2], *down = from->down + sixteenths_y % 16 / 2 * TAPS;
    four near = {0}, far = {0};
    for (int tap = 0; tap < TAPS; tap++, row += from->row) {
        near += down[tap] * load(row);
        far += down[tap] * load(row + 4);
    }
    near = near * load(right) + far * load(right + 4);
    return (near[0] + near[2]) * vector[0] + (near[1] + near[3]) * vector[1];
}

/* The score of one pair; it is given up as soon as too many samples fail. */
static float pair_score(const limb_request *request, const sampler *from, const float *start, const float *end) {
    const float vector[2] = {end[0] - start[0], end[1] - start[1]};
    float length = sqrtf(vector[0] * vector[0] + vector[1] * vector[1]) + 1e-6f;
    float threshold = request->threshold * length, total = 0;
    index_t failed = 0, spare = request->samples - request->needed;
    for (index_t s = 0; s < request->samples; s++) {
        float step = request->steps[s];
        float value = along(from, vector[0] * step + start[0], vector[1] * step + start[1], vector);
        if (value > threshold) total += value;
        else if (++failed > spare) return 0;
    }
    return total > 0 ? total / (length * (float)(request->samples - failed)) : 0;
}

int score_limbs(const limb_request *request, float *scores) {
    index_t height = request->height, width = request->width, most = request->most;
    if (request->needed > request->samples) return 0;
    float *field = malloc((size_t)((height + 2 * PAD) * (width + 2 * PAD) * 2) * sizeof *field);
    if (!field) return -1;
    sampler from = {field, (size_t)(width + 2 * PAD) * 2, (float)(width * POINTS - 1), (float)(height * POINTS - 1),
                    request->cubic, {{0}}};
    for (int n = 0; n < POINTS; n++)
        for (int c = 0; c < 2 * TAPS; c++) from.right[n][c] = request->cubic[n * TAPS + c / 2];
    for (index_t limb = 0; limb < request->limbs; limb++) {
        index_t start = request->starts[limb], end = request->ends[limb];
        if (!request->counts[start] || !request->counts[end]) continue;
        interleave(request->pafs + 2 * limb * height * width, height, width, field);
        for (index_t a = 0; a < request->counts[start]; a++)
            for (index_t b = 0; b < request->counts[end]; b++)
                scores[(limb * most + a) * most + b] =
                    pair_score(request, &from, request->points + (start * most + a) * 2,
                               request->points + (end * most + b) * 2);
    }
    free(field);
    return 0;
}
