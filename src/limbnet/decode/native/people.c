/* Matching limbs and assembling people; see limbnet/decode/assemble.py for the rules. */
#include "kernels.h"

#include <stdlib.h>

/* Lists the pairs of one limb that have a score, best first, as keys (see `falling`). */
static index_t ranked_pairs(const float *scores, index_t pairs, uint64_t *keys) {
    index_t count = 0;
    for (index_t pair = 0; pair < pairs; pair++) {
        if (scores[pair] > 0) keys[count++] = falling(scores[pair], (uint32_t)pair);
    }
    if (count) qsort(keys, (size_t)count, sizeof *keys, by_key);
    return count;
}

int match_limbs(const float *limb_scores, index_t limbs, index_t most, connection_list *result) {
    size_t pairs = (size_t)(most * most);
    uint64_t *keys = malloc((pairs + 1) * sizeof *keys);
    unsigned char *used = malloc((size_t)most * 2 + 1);
    result->pairs = malloc(((size_t)(limbs * most) * 3 + 1) * sizeof *result->pairs);
    result->scores = malloc(((size_t)(limbs * most) + 1) * sizeof *result->scores);
    int failed = !keys || !used || !result->pairs || !result->scores;
    for (index_t limb = 0; !failed && limb < limbs; limb++) {
        const float *scores = limb_scores + limb * most * most;
        index_t count = ranked_pairs(scores, most * most, keys);
        memset(used, 0, (size_t)most * 2);
        for (index_t n = 0; n < count; n++) {
            index_t pair = (index_t)(uint32_t)keys[n], start = pair / most, end = pair % most;
            if (used[start] || used[most + end]) continue;
            used[start] = used[most + end] = 1;
            index_t *connection = result->pairs + 3 * result->count;
            connection[0] = limb, connection[1] = start, connection[2] = end;
            result->scores[result->count++] = scores[pair];
        }
    }
    free(keys);
    free(used);
    return failed ? -1 : 0;
}

/* People while they grow, in the order in which they were founded. */
typedef struct {
    index_t room, born;
    index_t *parts;  /* (joints, room) peak of each joint, -1 where there is none and for all joints of merged people */
    index_t *counts; /* (room,) joints, 0 for merged people */
    double *totals;  /* (room,) peak and limb scores */
} gathering;

/* Lists up to three people that hold the start or the end of a connection, the eldest first. */
static int touching(const gathering *people, const index_t *starts, const index_t *ends, index_t a, index_t b,
                    index_t found[3]) {
    int count = 0;
    for (index_t person = 0; person < people->born && count < 3; person++)
        if (starts[person] == a || ends[person] == b) found[count++] = person;
    return count;
}

static int disjoint(const gathering *people, index_t joints, index_t one, index_t other) {
    for (index_t joint = 0; joint < joints; joint++) {
        const index_t *parts = people->parts + joint * people->room;
        if (parts[one] >= 0 && parts[other] >= 0) return 0;
    }
    return 1;
}

static void merge(gathering *people, index_t joints, index_t one, index_t other, double score) {
    for (index_t joint = 0; joint < joints; joint++) {
        index_t *parts = people->parts + joint * people->room;
        if (parts[other] >= 0) parts[one] = parts[other];
        parts[other] = -1;
    }
    people->counts[one] += people->counts[other];
    people->totals[one] += people->totals[other] + score;
    people->counts[other] = 0;
}

static void connect(const people_request *request, gathering *people, const index_t *pair, double score) {
    index_t limb = pair[0], a = pair[1], b = pair[2], hit[3];
    index_t start = request->starts[limb], end = request->ends[limb];
    index_t *starts = people->parts + start * people->room, *ends = people->parts + end * people->room;
    double start_score = request->peak_scores[start * request->most + a];
    double end_score = request->peak_scores[end * request->most + b];
    int count = touching(people, starts, ends, a, b, hit);
    if (count == 0 && !request->redundant[limb]) {
        index_t person = people->born++;
        starts[person] = a, ends[person] = b;
        people->counts[person] = 2;
        people->totals[person] = start_score + end_score + score;
    } else if (count == 2 && disjoint(people, request->joints, hit[0], hit[1])) {
        merge(people, request->joints, hit[0], hit[1], score);
    } else if (count == 2 || (count == 1 && ends[hit[0]] != b)) {
        ends[hit[0]] = b;
        people->counts[hit[0]]++;
        people->totals[hit[0]] += end_score + score;
    }
}

typedef struct {
    double total;
    index_t person;
} rank;

static int by_total(const void *one, const void *other) {
    const rank *a = one, *b = other;
    if (a->total != b->total) return a->total > b->total ? -1 : 1;
    return (a->person > b->person) - (a->person < b->person);
}

static int outside_of(const people_request *request, const index_t *pair) {
    return pair[0] < 0 || pair[0] >= request->limbs || pair[1] < 0 || pair[1] >= request->most || pair[2] < 0 ||
           pair[2] >= request->most;
}

static void keep(const people_request *request, const gathering *people, rank *ranks, people_list *result) {
    for (index_t person = 0; person < people->born; person++) {
        index_t count = people->counts[person];
        if (count && count >= request->min_joints && people->totals[person] >= request->min_score * (double)count)
            ranks[result->count++] = (rank){people->totals[person], person};
    }
    if (result->count) qsort(ranks, (size_t)result->count, sizeof *ranks, by_total);
    for (index_t n = 0; n < result->count; n++) {
        result->totals[n] = ranks[n].total;
        for (index_t joint = 0; joint < request->joints; joint++)
            result->parts[n * request->joints + joint] = people->parts[joint * people->room + ranks[n].person];
    }
}

int assemble(const people_request *request, people_list *result, int *outside) {
    size_t room = (size_t)request->count + 1, joints = (size_t)request->joints;
    gathering people = {(index_t)room, 0, malloc(room * joints * sizeof(index_t)), calloc(room, sizeof(index_t)),
                        calloc(room, sizeof(double))};
    rank *ranks = malloc(room * sizeof *ranks);
    result->parts = malloc(room * joints * sizeof(index_t));
    result->totals = malloc(room * sizeof(double));
    int failed = !people.parts || !people.counts || !people.totals || !ranks || !result->parts || !result->totals;
    if (!failed) memset(people.parts, 0xff, room * joints * sizeof(index_t)); /* -1 everywhere */
    for (index_t n = 0; !failed && n < request->count; n++) {
        failed = *outside = outside_of(request, request->pairs + 3 * n);
        if (!failed) connect(request, &people, request->pairs + 3 * n, request->scores[n]);
    }
    if (!failed) keep(request, &people, ranks, result);
    free(people.parts);
    free(people.counts);
    free(people.totals);
    free(ranks);
    return failed ? -1 : 0;
}
