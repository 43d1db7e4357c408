/* Peaks of heatmaps; see limbnet/decode/peaks.py for what is computed and why. */
#include "kernels.h"

#include <math.h>
#include <stdlib.h>

/* Floats from one row of a patch to the next: whole vector registers. */
enum { PATCH_STRIDE = 12, CELL_STRIDE = 8 };

/* What is allocated once and used for every map. */
typedef struct {
    float *three;        /* (height, width) largest of three cells in a row */
    unsigned char *keep; /* (width,) */
    index_t *cells;      /* (height * width,) */
    uint64_t *keys;      /* (height * width,) */
    /* (BORDER_KINDS, AROUND, PATCH_STRIDE): the smoothing matrices transposed */
    float across[BORDER_KINDS][AROUND][PATCH_STRIDE];
} workspace;

static float larger(float a, float b) { return a > b ? a : b; }

/* Lists the cells of one map where peaks may lie; returns how many. */
static index_t candidate_cells(const peak_request *request, const float *map, workspace *space) {
    index_t height = request->height, width = request->width, count = 0;
    for (index_t row = 0; row < height; row++) {
        const float *value = map + row * width;
        float *three = space->three + row * width;
        three[0] = larger(value[0], value[width > 1]);
        for (index_t c = 1; c < width - 1; c++) three[c] = larger(larger(value[c - 1], value[c]), value[c + 1]);
        if (width > 1) three[width - 1] = larger(value[width - 2], value[width - 1]);
    }
    for (index_t row = 0; row < height; row++) {
        const float *value = map + row * width, *three = space->three + row * width;
        const float *above = row > 0 ? three - width : three, *below = row < height - 1 ? three + width : three;
        for (index_t c = 0; c < width; c++) {
            float largest = larger(larger(above[c], three[c]), below[c]);
            space->keep[c] = value[c] >= larger(largest, request->threshold) * request->candidate;
        }
        const unsigned char *end = space->keep + width, *next = space->keep;
        while ((next = memchr(next, 1, (size_t)(end - next))))
            space->cells[count++] = row * width + (next++ - space->keep);
    }
    return count;
}

/* Keeps the highest `most` of the cells, in no particular order. */
static void keep_highest(const float *map, workspace *space, index_t count, index_t most) {
    for (index_t n = 0; n < count; n++) space->keys[n] = falling(map[space->cells[n]], (uint32_t)space->cells[n]);
    qsort(space->keys, (size_t)count, sizeof *space->keys, by_key);
    for (index_t n = 0; n < most; n++) space->cells[n] = (index_t)(uint32_t)space->keys[n];
}

/* Copies the 5x5 cells around one, the edge of the map repeated. */
static void surroundings(const peak_request *request, const float *map, index_t row, index_t column,
                         float around[AROUND][CELL_STRIDE]) {
    for (index_t r = 0; r < AROUND; r++) {
        const float *line = map + clamped(row + r - 2, request->height) * request->width;
        if (column >= 2 && column < request->width - 2) memcpy(around[r], line + column - 2, AROUND * sizeof(float));
        else
            for (index_t c = 0; c < AROUND; c++) around[r][c] = line[clamped(column + c - 2, request->width)];
        for (index_t c = AROUND; c < CELL_STRIDE; c++) around[r][c] = 0;
    }
}

static int border_kind(index_t place, index_t size) { return (place == 0) + 2 * (place == size - 1); }

/* The smoothed surface on a cell and the ring around it: down the columns first, then along the rows. */
static void surface(const float *down, float across[AROUND][PATCH_STRIDE], float around[AROUND][CELL_STRIDE],
                    float patch[PATCH][PATCH_STRIDE]) {
    for (int r = 0; r < PATCH; r++, down += AROUND) {
        four line = {0}, points[PATCH_STRIDE / 4] = {{0}};
        float last = 0;
        for (int n = 0; n < AROUND; n++) {
            line += down[n] * load(around[n]);
            last += down[n] * around[n][4];
        }
        for (int n = 0; n < PATCH_STRIDE / 4; n++) {
            for (int c = 0; c < 4; c++) points[n] += line[c] * load(across[c] + 4 * n);
            points[n] += last * load(across[4] + 4 * n);
        }
        memcpy(patch[r], points, sizeof patch[r]);
    }
}

/* Tells of four points which are no smaller than their neighbours along the axes, of equal ones the first. */
static four_masks tops_four(float patch[PATCH][PATCH_STRIDE], int r, int c) {
    four value = load(&patch[r][c]);
    return (value > load(&patch[r - 1][c])) & (value > load(&patch[r][c - 1])) & (value >= load(&patch[r][c + 1])) &
           (value >= load(&patch[r + 1][c]));
}

/* Tells whether a point is no smaller than its neighbours on the diagonals, of equal ones the first. */
static int tops_diagonals(float patch[PATCH][PATCH_STRIDE], int r, int c) {
    float value = patch[r][c];
    return value > patch[r - 1][c - 1] && value > patch[r - 1][c + 1] && value >= patch[r + 1][c - 1] &&
           value >= patch[r + 1][c + 1];
}

/* Offsets x, y in cells from the cell's centre to the peak: the summit of the parabola in the logarithm. */
static void refine(const peak_request *request, float around[AROUND][CELL_STRIDE], const int inside[2],
                   const int kind[2], double offset[2]) {
    float middle = logf(larger(around[2][2], request->floor_value));
    const float back[2] = {logf(larger(around[2][1], request->floor_value)) - middle,
                           logf(larger(around[1][2], request->floor_value)) - middle};
    const float forth[2] = {logf(larger(around[2][3], request->floor_value)) - middle,
                            logf(larger(around[3][2], request->floor_value)) - middle};
    double shift[2];
    for (int axis = 0; axis < 2; axis++) {
        /* At the border the curvature of the other axis stands in, because the labels' Gaussians are round. */
        int shown = kind[axis] ? 1 - axis : axis;
        float curvature = back[shown] + forth[shown], slope;
        if (!kind[axis]) slope = (forth[axis] - back[axis]) / 2;
        else if (kind[axis] == 1) slope = forth[axis] - curvature / 2;
        else slope = curvature / 2 - back[axis];
        int trusted = curvature < -0.05f && kind[axis] < 3 && !(kind[0] && kind[1]);
        offset[axis] = (inside[axis] - (POINTS - 1) / 2.0) / POINTS;
        shift[axis] = trusted ? (double)(-slope / curvature) - offset[axis] : 0;
    }
    double length = sqrt(shift[0] * shift[0] + shift[1] * shift[1]);
    for (int axis = 0; axis < 2; axis++)
        offset[axis] += shift[axis] * (request->reach / (length > request->reach ? length : request->reach));
}

static float unsmoothed(const float *plain, float around[AROUND][CELL_STRIDE], int r, int c) {
    float value = 0;
    for (int i = 0; i < AROUND; i++) {
        float line = 0;
        for (int j = 0; j < AROUND; j++) line += plain[c * AROUND + j] * around[i][j];
        value += plain[r * AROUND + i] * line;
    }
    return value;
}

/* A list that grows. */
typedef struct {
    peak *peaks;
    index_t count, room;
} growing;

static int append(growing *list, peak one) {
    if (list->count == list->room) {
        index_t room = list->room ? 2 * list->room : 256;
        peak *larger_list = realloc(list->peaks, (size_t)room * sizeof *larger_list);
        if (!larger_list) return -1;
        list->peaks = larger_list;
        list->room = room;
    }
    list->peaks[list->count++] = one;
    return 0;
}

static int cell_peaks(const peak_request *request, const float *map, workspace *space, index_t cell, growing *list) {
    index_t row = cell / request->width, column = cell % request->width;
    const int kind[2] = {border_kind(column, request->width), border_kind(row, request->height)};
    float around[AROUND][CELL_STRIDE], patch[PATCH][PATCH_STRIDE];
    surroundings(request, map, row, column, around);
    surface(request->smooth + kind[1] * PATCH * AROUND, space->across[kind[0]], around, patch);
    for (int r = 1; r <= POINTS; r++) {
        const four_masks highest[2] = {tops_four(patch, r, 1), tops_four(patch, r, 5)}, any = highest[0] | highest[1];
        if (!(any[0] | any[1] | any[2] | any[3])) continue;
        for (int c = 0; c < POINTS; c++) {
            if (!highest[c / 4][c % 4] || !tops_diagonals(patch, r, c + 1)) continue;
            float value = unsmoothed(request->plain, around, r, c + 1);
            if (!(value > request->threshold)) continue;
            const int inside[2] = {c, r - 1};
            double offset[2], middle = (request->stride - 1) / 2;
            refine(request, around, inside, kind, offset);
            peak one = {(float)(((double)column + offset[0]) * request->stride + middle),
                        (float)(((double)row + offset[1]) * request->stride + middle), value,
                        (float)(column * POINTS + c), (float)(row * POINTS + r - 1)};
            if (append(list, one)) return -1;
        }
    }
    return 0;
}

static int by_raster(const void *one, const void *other) {
    const peak *a = one, *b = other;
    if (a->row != b->row) return a->row < b->row ? -1 : 1;
    return (a->column > b->column) - (a->column < b->column);
}

static int by_value(const void *one, const void *other) {
    const peak *a = one, *b = other;
    if (a->value != b->value) return a->value > b->value ? -1 : 1;
    return by_raster(one, other);
}

/* Where a map has more peaks than are kept, the lists of all maps are ordered by value; else they stay as they are. */
static void cap(const peak_request *request, peak_list *result) {
    int over = 0;
    for (index_t m = 0; m < request->maps; m++) over |= result->counts[m] > request->most_peaks;
    if (!over) return;
    peak *from = result->peaks, *to = result->peaks;
    for (index_t m = 0; m < request->maps; m++) {
        index_t count = result->counts[m], kept = count < request->most_peaks ? count : request->most_peaks;
        if (count) qsort(from, (size_t)count, sizeof *from, by_value);
        memmove(to, from, (size_t)kept * sizeof *to);
        from += count;
        to += kept;
        result->counts[m] = kept;
    }
}

static int all_maps(const peak_request *request, workspace *space, growing *list, peak_list *result) {
    for (index_t m = 0; m < request->maps; m++) {
        const float *map = request->heatmaps + m * request->height * request->width;
        index_t cells = candidate_cells(request, map, space), first = list->count, unseen = 0;
        if (cells > request->most_cells) {
            keep_highest(map, space, cells, request->most_cells);
            unseen = cells - request->most_cells;
            cells = request->most_cells;
        }
        for (index_t n = 0; n < cells; n++)
            if (cell_peaks(request, map, space, space->cells[n], list)) return -1;
        result->counts[m] = list->count - first;
        result->found[m] = result->counts[m] + unseen;
        if (result->counts[m]) qsort(list->peaks + first, (size_t)result->counts[m], sizeof(peak), by_raster);
    }
    return 0;
}

int find_peaks(const peak_request *request, peak_list *result) {
    size_t cells = (size_t)(request->height * request->width), maps = (size_t)request->maps;
    growing list = {0};
    workspace space = {malloc(cells * sizeof(float)), malloc((size_t)request->width), malloc(cells * sizeof(index_t)),
                       malloc(cells * sizeof(uint64_t)), {{{0}}}};
    for (int kind = 0; kind < BORDER_KINDS; kind++)
        for (int r = 0; r < PATCH; r++)
            for (int c = 0; c < AROUND; c++)
                space.across[kind][c][r] = request->smooth[(kind * PATCH + r) * AROUND + c];
    result->counts = malloc((maps + 1) * sizeof(index_t));
    result->found = malloc((maps + 1) * sizeof(index_t));
    int failed = !space.three || !space.keep || !space.cells || !space.keys || !result->counts || !result->found;
    failed = failed || all_maps(request, &space, &list, result);
    result->peaks = list.peaks;
    if (!failed) cap(request, result);
    free(space.three);
    free(space.keep);
    free(space.cells);
    free(space.keys);
    return failed ? -1 : 0;
}
