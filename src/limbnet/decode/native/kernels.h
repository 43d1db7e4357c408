/* The decoder's four steps in C, without Python: each the twin of the NumPy function of the same name.
 *
 * Arrays are dense and in C's order. Functions return 0, or -1 where memory ran out; what they allocate for the caller
 * is freed with free(). Arithmetic is that of the NumPy twins: float where they have float32, double where they have
 * Python's floats.
 */
#ifndef LIMBNET_KERNELS_H
#define LIMBNET_KERNELS_H

#include <stddef.h>
#include <stdint.h>
#include <string.h>

/* As wide as NumPy's intp. */
typedef ptrdiff_t index_t;

enum {
    POINTS = 8,         /* points of the upsampled surface across a cell */
    PATCH = POINTS + 2, /* points of a patch across: those of the cell and a ring around them */
    AROUND = 5,         /* cells across that a patch depends on */
    BORDER_KINDS = 4,   /* inside, first, last, both first and last cell of a row */
    TAPS = 4            /* cells along one axis that cubic interpolation weights */
};

/* Four floats that the processor takes together (GCC's and Clang's vector extension, on every architecture). */
typedef float four __attribute__((vector_size(16)));
typedef int32_t four_masks __attribute__((vector_size(16))); /* what comparing them gives: -1 or 0 each */

static inline four load(const float *values) {
    four result;
    memcpy(&result, values, sizeof result);
    return result;
}

/* The nearest index that a row or column of so many cells has. */
static inline index_t clamped(index_t value, index_t size) { return value < 0 ? 0 : value < size ? value : size - 1; }

/* A key that sorts by falling positive value, and then by rising number. */
static inline uint64_t falling(float value, uint32_t number) {
    uint32_t bits;
    memcpy(&bits, &value, sizeof bits);
    return (uint64_t)(~bits) << 32 | number;
}

/* Compares such keys for qsort. */
static inline int by_key(const void *one, const void *other) {
    uint64_t a = *(const uint64_t *)one, b = *(const uint64_t *)other;
    return (a > b) - (a < b);
}

typedef struct {
    const float *heatmaps; /* (maps, height, width), finite */
    index_t maps, height, width;
    const float *smooth; /* (BORDER_KINDS, PATCH, AROUND): from cells to the smoothed points of a patch */
    const float *plain;  /* (PATCH, AROUND): to the points that are not smoothed */
    double stride;       /* network-input pixels a cell */
    float threshold;
    float candidate;        /* share of the neighbourhood's maximum, and of the threshold, that a cell needs */
    index_t most_cells;     /* cells looked at in one map */
    index_t most_peaks;     /* peaks kept of one map */
    double reach;           /* cells by which refinement moves a peak at most */
    float floor_value;      /* smaller values are raised to it before a logarithm is taken */
} peak_request;

typedef struct {
    float x, y, value;  /* network-input pixels; unsmoothed heatmap value */
    float column, row;  /* eighths of a cell, before refinement */
} peak;

typedef struct {
    peak *peaks;     /* those of the first map, then of the second, ... */
    index_t *counts; /* (maps,) peaks kept */
    index_t *found;  /* (maps,) peaks before the cap, with the cells that were left out */
} peak_list;

int find_peaks(const peak_request *request, peak_list *result);

typedef struct {
    const float *pafs; /* (2 limbs, height, width), finite */
    index_t limbs, height, width;
    const float *points;   /* (joints, most, 2) column and row in eighths of a cell */
    const index_t *counts; /* (joints,) */
    index_t joints, most;
    const index_t *starts, *ends; /* (limbs,) joints */
    const float *steps;           /* (samples,) from 0 at the start to 1 at the end, in the order of sampling */
    index_t samples, needed;
    float threshold;
    const float *cubic; /* (POINTS, TAPS) weights of the cells around a point 1/16, 3/16, ... 15/16 of the way */
} limb_request;

/* Fills scores (limbs, most, most), which holds zeros. */
int score_limbs(const limb_request *request, float *scores);

typedef struct {
    index_t *pairs; /* (count, 3): limb, peak at its start, peak at its end */
    float *scores;  /* (count,) */
    index_t count;
} connection_list;

int match_limbs(const float *limb_scores, index_t limbs, index_t most, connection_list *result);

typedef struct {
    const index_t *pairs; /* (count, 3): limb, peak at its start, peak at its end */
    const float *scores;  /* (count,) */
    index_t count;
    const float *peak_scores; /* (joints, most) */
    index_t joints, most;
    const index_t *starts, *ends;    /* (limbs,) joints */
    const unsigned char *redundant; /* (limbs,) 1 for limbs that never start a person */
    index_t limbs;
    index_t min_joints;
    double min_score;
} people_request;

typedef struct {
    index_t *parts; /* (count, joints) peak of each joint, -1 where there is none; best person first */
    double *totals; /* (count,) */
    index_t count;
} people_list;

/* Returns -1 and sets `outside` where a connection names a limb or a peak that is not there. */
int assemble(const people_request *request, people_list *result, int *outside);

#endif
