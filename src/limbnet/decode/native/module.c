/* The module limbnet.decode._native: checks what Python hands over, lets go of the interpreter, calls the kernels.
 *
 * Arrays come as buffers and go back as bytearrays, so that building needs no more than Python's stable ABI.
 */
#define PY_SSIZE_T_CLEAN
#define Py_LIMITED_API 0x030B0000
#include <Python.h>

#include <stdlib.h>

#include "kernels.h"

/* Sides of maps and numbers of peaks above this would overflow what indices are kept in. */
#define LARGEST 65535

static int has(const Py_buffer *buffer, Py_ssize_t items, size_t size, const char *name) {
    if (buffer->len == items * (Py_ssize_t)size) return 1;
    PyErr_Format(PyExc_ValueError, "%s holds %zd bytes where %zd were expected", name, buffer->len,
                 items * (Py_ssize_t)size);
    return 0;
}

static int within(Py_ssize_t value, Py_ssize_t least, Py_ssize_t most, const char *name) {
    if (value >= least && value <= most) return 1;
    PyErr_Format(PyExc_ValueError, "%s is %zd, not %zd to %zd", name, value, least, most);
    return 0;
}

static int all_within(const Py_buffer *buffer, Py_ssize_t least, Py_ssize_t most, const char *name) {
    const index_t *values = buffer->buf;
    for (Py_ssize_t n = 0; n < buffer->len / (Py_ssize_t)sizeof *values; n++)
        if (!within(values[n], least, most, name)) return 0;
    return 1;
}

static void release(Py_buffer *buffers, int count) {
    for (int n = 0; n < count; n++)
        if (buffers[n].obj) PyBuffer_Release(&buffers[n]);
}

static PyObject *bytes_of(const void *values, index_t items, size_t size) {
    return PyByteArray_FromStringAndSize(items ? values : NULL, items * (Py_ssize_t)size);
}

/* (heatmaps, smooth, plain, maps, height, width, stride, threshold, candidate, most_cells, most_peaks, reach, floor)
 * -> (peaks, counts, found) */
static PyObject *py_find_peaks(PyObject *self, PyObject *args) {
    (void)self;
    Py_buffer in[3] = {{0}};
    peak_request request = {0};
    peak_list result = {0};
    PyObject *answer = NULL;
    if (!PyArg_ParseTuple(args, "y*y*y*nnndffnndf", &in[0], &in[1], &in[2], &request.maps, &request.height,
                          &request.width, &request.stride, &request.threshold, &request.candidate, &request.most_cells,
                          &request.most_peaks, &request.reach, &request.floor_value))
        goto done;
    if (!within(request.maps, 0, PY_SSIZE_T_MAX / LARGEST / LARGEST / 8, "maps") ||
        !within(request.height, 1, LARGEST, "height") || !within(request.width, 1, LARGEST, "width") ||
        !within(request.most_cells, 1, PY_SSIZE_T_MAX, "most_cells") ||
        !within(request.most_peaks, 1, LARGEST, "most_peaks") ||
        !has(&in[0], request.maps * request.height * request.width, sizeof(float), "heatmaps") ||
        !has(&in[1], BORDER_KINDS * PATCH * AROUND, sizeof(float), "smooth") ||
        !has(&in[2], PATCH * AROUND, sizeof(float), "plain"))
        goto done;
    request.heatmaps = in[0].buf, request.smooth = in[1].buf, request.plain = in[2].buf;
    int failed;
    Py_BEGIN_ALLOW_THREADS
    failed = find_peaks(&request, &result);
    Py_END_ALLOW_THREADS
    if (failed) {
        PyErr_NoMemory();
        goto done;
    }
    index_t count = 0;
    for (index_t m = 0; m < request.maps; m++) count += result.counts[m];
    answer = Py_BuildValue("(NNN)", bytes_of(result.peaks, count, sizeof(peak)),
                           bytes_of(result.counts, request.maps, sizeof(index_t)),
                           bytes_of(result.found, request.maps, sizeof(index_t)));
done:
    free(result.peaks);
    free(result.counts);
    free(result.found);
    release(in, 3);
    return answer;
}

/* (scores, pafs, points, counts, starts, ends, steps, cubic, limbs, height, width, joints, most, samples, needed,
 * threshold) -> None; scores is written to. */
static PyObject *py_score_limbs(PyObject *self, PyObject *args) {
    (void)self;
    Py_buffer in[8] = {{0}};
    limb_request request = {0};
    PyObject *answer = NULL;
    if (!PyArg_ParseTuple(args, "w*y*y*y*y*y*y*y*nnnnnnnf", &in[0], &in[1], &in[2], &in[3], &in[4], &in[5], &in[6],
                          &in[7], &request.limbs, &request.height, &request.width, &request.joints, &request.most,
                          &request.samples, &request.needed, &request.threshold))
        goto done;
    if (!within(request.limbs, 0, LARGEST, "limbs") || !within(request.height, 1, LARGEST, "height") ||
        !within(request.width, 1, LARGEST, "width") || !within(request.joints, 0, LARGEST, "joints") ||
        !within(request.most, 0, LARGEST, "most") || !within(request.samples, 1, LARGEST, "samples") ||
        !has(&in[0], request.limbs * request.most * request.most, sizeof(float), "scores") ||
        !has(&in[1], 2 * request.limbs * request.height * request.width, sizeof(float), "pafs") ||
        !has(&in[2], request.joints * request.most * 2, sizeof(float), "points") ||
        !has(&in[3], request.joints, sizeof(index_t), "counts") || !all_within(&in[3], 0, request.most, "a count") ||
        !has(&in[4], request.limbs, sizeof(index_t), "starts") ||
        !all_within(&in[4], 0, request.joints - 1, "a limb's start") ||
        !has(&in[5], request.limbs, sizeof(index_t), "ends") ||
        !all_within(&in[5], 0, request.joints - 1, "a limb's end") ||
        !has(&in[6], request.samples, sizeof(float), "steps") ||
        !has(&in[7], POINTS * TAPS, sizeof(float), "cubic"))
        goto done;
    request.pafs = in[1].buf, request.points = in[2].buf, request.counts = in[3].buf, request.starts = in[4].buf;
    request.ends = in[5].buf, request.steps = in[6].buf, request.cubic = in[7].buf;
    int failed;
    Py_BEGIN_ALLOW_THREADS
    failed = score_limbs(&request, in[0].buf);
    Py_END_ALLOW_THREADS
    answer = failed ? PyErr_NoMemory() : Py_NewRef(Py_None);
done:
    release(in, 8);
    return answer;
}

/* (limb_scores, limbs, most) -> (pairs, scores) */
static PyObject *py_match_limbs(PyObject *self, PyObject *args) {
    (void)self;
    Py_buffer in = {0};
    index_t limbs, most;
    connection_list result = {0};
    PyObject *answer = NULL;
    if (!PyArg_ParseTuple(args, "y*nn", &in, &limbs, &most)) goto done;
    if (!within(limbs, 0, LARGEST, "limbs") || !within(most, 0, LARGEST, "most") ||
        !has(&in, limbs * most * most, sizeof(float), "limb_scores"))
        goto done;
    int failed;
    Py_BEGIN_ALLOW_THREADS
    failed = match_limbs(in.buf, limbs, most, &result);
    Py_END_ALLOW_THREADS
    if (failed) PyErr_NoMemory();
    else
        answer = Py_BuildValue("(NN)", bytes_of(result.pairs, 3 * result.count, sizeof(index_t)),
                               bytes_of(result.scores, result.count, sizeof(float)));
done:
    free(result.pairs);
    free(result.scores);
    release(&in, 1);
    return answer;
}

/* (pairs, scores, peak_scores, starts, ends, redundant, count, joints, most, limbs, min_joints, min_score)
 * -> (parts, totals) */
static PyObject *py_assemble(PyObject *self, PyObject *args) {
    (void)self;
    Py_buffer in[6] = {{0}};
    people_request request = {0};
    people_list result = {0};
    PyObject *answer = NULL;
    if (!PyArg_ParseTuple(args, "y*y*y*y*y*y*nnnnnd", &in[0], &in[1], &in[2], &in[3], &in[4], &in[5], &request.count,
                          &request.joints, &request.most, &request.limbs, &request.min_joints, &request.min_score))
        goto done;
    if (!within(request.joints, 0, LARGEST, "joints") || !within(request.most, 0, LARGEST, "most") ||
        !within(request.limbs, 0, LARGEST, "limbs") ||
        !within(request.count, 0, LARGEST * (Py_ssize_t)LARGEST, "count") ||
        !has(&in[0], 3 * request.count, sizeof(index_t), "pairs") ||
        !has(&in[1], request.count, sizeof(float), "scores") ||
        !has(&in[2], request.joints * request.most, sizeof(float), "peak_scores") ||
        !has(&in[3], request.limbs, sizeof(index_t), "starts") ||
        !all_within(&in[3], 0, request.joints - 1, "a limb's start") ||
        !has(&in[4], request.limbs, sizeof(index_t), "ends") ||
        !all_within(&in[4], 0, request.joints - 1, "a limb's end") ||
        !has(&in[5], request.limbs, 1, "redundant"))
        goto done;
    request.pairs = in[0].buf, request.scores = in[1].buf, request.peak_scores = in[2].buf;
    request.starts = in[3].buf, request.ends = in[4].buf, request.redundant = in[5].buf;
    int failed, outside = 0;
    Py_BEGIN_ALLOW_THREADS
    failed = assemble(&request, &result, &outside);
    Py_END_ALLOW_THREADS
    if (outside) PyErr_SetString(PyExc_ValueError, "a connection names a limb or a peak that is not there");
    else if (failed) PyErr_NoMemory();
    else
        answer = Py_BuildValue("(NN)", bytes_of(result.parts, result.count * request.joints, sizeof(index_t)),
                               bytes_of(result.totals, result.count, sizeof(double)));
done:
    free(result.parts);
    free(result.totals);
    release(in, 6);
    return answer;
}

static PyMethodDef methods[] = {
    {"find_peaks", py_find_peaks, METH_VARARGS, NULL},
    {"score_limbs", py_score_limbs, METH_VARARGS, NULL},
    {"match_limbs", py_match_limbs, METH_VARARGS, NULL},
    {"assemble", py_assemble, METH_VARARGS, NULL},
    {NULL, NULL, 0, NULL},
};

static PyModuleDef_Slot slots[] = {{0, NULL}};

static struct PyModuleDef definition = {
    PyModuleDef_HEAD_INIT, "_native", "The decoder's steps, compiled.", 0, methods, slots, NULL, NULL, NULL,
};

PyMODINIT_FUNC PyInit__native(void) { return PyModuleDef_Init(&definition); }
