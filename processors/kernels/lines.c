/* Which readings of a register may be left out between its breaks, and the cheapest line through them. */
#include <stdint.h>

#define RUN_MAX_MS INT64_C(86400000)
#define GAP_MAX_MS (400 * RUN_MAX_MS)
#define FEW 2
#define BREAKS_MAX 100
#define ONE_VALUE 2

/* Readings in their order; `kept`: how many before each must be kept. What they rise at most is
   whole * ms + rest * ms / parts + steps, anything if not `limited`; `width`: where they roll, 0: not known. */
typedef struct {
    const int64_t *time, *value, *kept;
    int64_t limited, whole, rest, parts, steps, width;
} Readings;

typedef struct {
    int64_t *start, *end, *cost, count;
} Runs;

static int64_t possible(const Readings *all, int64_t start, int64_t end) {
    const int64_t ms = all->time[end] - all->time[start];
    if (!all->limited) return INT64_C(1) << 62;
    return all->whole * ms + all->rest * ms / all->parts + all->steps;
}

/* Whether a register counts on from one reading to another; with `turning` over its end, too. */
static int counts_on(const Readings *all, int64_t start, int64_t end, int turning) {
    const int64_t rise = all->value[end] - all->value[start], most = possible(all, start, end);
    const int64_t fewest = rise < 0 ? rise + all->width : rise;
    const int turns = all->width && all->limited;
    if (turns && fewest >= 0 && fewest <= most - all->width) return 0; /* a turn more fits */
    return rise >= 0 ? rise <= most : turning && turns && fewest >= 0 && fewest <= most;
}

/* Whether the ends of a run may be as far apart: not long, or with few readings between. */
static int may_lead(const int64_t *time, int64_t start, int64_t end) {
    const int64_t ms = time[end] - time[start];
    return ms <= RUN_MAX_MS || (end - start - 1 <= FEW && ms <= GAP_MAX_MS);
}

static void add(const Readings *all, int64_t start, int64_t end, int64_t cost, int turning, Runs *out) {
    if (start < 0 || end < 0 || !may_lead(all->time, start, end)) return;
    if (all->kept[end] > all->kept[start + 1] || !counts_on(all, start, end, turning)) return;
    out->start[out->count] = start;
    out->end[out->count] = end;
    out->cost[out->count++] = cost;
}

static int64_t apart(const int64_t *value, int64_t at) {
    return value[at + 1] < value[at] ? value[at] - value[at + 1] : value[at + 1] - value[at];
}

/* Whether what lies between two breaks is further off the line at both than the register can rise over it. */
static int told_apart(const Readings *all, int64_t start, int64_t end) {
    const int64_t most = possible(all, start, end);
    return apart(all->value, start) > most && apart(all->value, end - 1) > most;
}

/* Runs that may be left out, in no order; returns how many. Breaks by the position of the reading before them
   (`low`), in order: where a dip behind each may end and a bump before each begin (-1: none), and how much the
   pieces before each cost, how many of these count on, how many pairs are broken (one number more). */
int64_t meterflow_runs(int64_t breaks, const int64_t *low, const int64_t *behind, const int64_t *ahead,
                       const int64_t *pieces, const int64_t *counting, const int64_t *broken, const int64_t *time,
                       const int64_t *value, const int64_t *kept, int64_t limited, int64_t whole, int64_t rest,
                       int64_t parts, int64_t steps, int64_t width, int64_t *start, int64_t *end, int64_t *cost) {
    const Readings all = {time, value, kept, limited, whole, rest, parts, steps, width};
    Runs out = {start, end, cost, 0};
    for (int64_t first = 0; first < breaks; first++) {
        const int64_t from = low[first];
        for (int64_t last = first; last < breaks && last < first + BREAKS_MAX; last++) {
            const int64_t to = low[last] + 1;
            if (!may_lead(time, from, to) || kept[to] > kept[from + 1]) break;
            if (broken[last + 1] == broken[first]) continue;
            const int64_t price = pieces[last] - pieces[first];
            const int more = counting[last] > counting[first];
            if (last > first && (!more || told_apart(&all, from, to))) add(&all, from, to, price, !more, &out);
            if (more || value[to] >= value[from]) continue;
            add(&all, from, behind[last], price + ONE_VALUE, 0, &out);
            add(&all, ahead[first], to, price + ONE_VALUE, 0, &out);
        }
    }
    return out.count;
}

/* What a line costs: compared one after the other. */
typedef struct {
    int64_t events, lost, other, wraps;
} Cost;

static Cost sum(Cost a, Cost b) {
    return (Cost){a.events + b.events, a.lost + b.lost, a.other + b.other, a.wraps + b.wraps};
}

static int less(Cost a, Cost b) {
    if (a.events != b.events) return a.events < b.events;
    if (a.lost != b.lost) return a.lost < b.lost;
    return a.other != b.other ? a.other < b.other : a.wraps < b.wraps;
}

/* Of each node where the cheapest line to the last one goes on, -1: to the next. `stay`: what going to the next node
   costs in events, and in wraps. Runs by their first node, the shortest first. `to_go` is for four numbers a node. */
int64_t meterflow_cheapest(int64_t nodes, const int64_t *stay, const int64_t *stay_wraps, int64_t runs,
                           const int64_t *start, const int64_t *end, const int64_t *events, const int64_t *lost,
                           const int64_t *other, const int64_t *wraps, int64_t *to_go, int64_t *chosen) {
    Cost *rest = (Cost *)to_go;
    int64_t run = runs - 1;
    rest[nodes - 1] = (Cost){0, 0, 0, 0};
    chosen[nodes - 1] = -1;
    for (int64_t at = nodes - 2; at >= 0; at--) {
        rest[at] = sum((Cost){stay[at], 0, 0, stay_wraps[at]}, rest[at + 1]);
        chosen[at] = -1;
        int64_t first = run;
        while (first >= 0 && start[first] == at) first--;
        for (int64_t k = first + 1; k <= run; k++) {
            const Cost one = sum((Cost){events[k], lost[k], other[k], wraps[k]}, rest[end[k]]);
            if (!less(one, rest[at])) continue;
            rest[at] = one;
            chosen[at] = end[k];
        }
        run = first;
    }
    return nodes;
}
