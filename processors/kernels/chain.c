/* What registers did between neighbouring readings, where all of it is plain: signed flows. */
#include <stdint.h>

#define TIME_BITS 43
#define TIME_OF(key) (((key) & ((INT64_C(1) << TIME_BITS) - 1)) + INT64_C(946684800000) - 1)
#define NONE (-1)
#define ROUNDED 1
#define CONFLICT 2
#define ESTIMATED 4
#define EDITED 128
#define ONE_EDITED 65536
#define GAP_MAX_MS INT64_C(34560000000)

/* Of every series. */
typedef struct {
    const int64_t *newest, *newest_value;
    const uint8_t *newest_flags;
    const int64_t *numerator, *near_ms, *point, *allowance, *width;
    const uint8_t *simple, *limited;
    const double *per_ms;
} Facts;

typedef struct {
    int64_t *point, *sign, *start, *end, *amount, *measured, *rounded, *record;
} Flows;

typedef struct {
    int64_t key, value;
    uint8_t flags;
} Reading;

/* Within a hair of what is possible floats do not say: that is left to whoever counts exactly. */
static int is_plain(const Facts *facts, int64_t s, Reading from, Reading to) {
    const int64_t rise = to.value - from.value, length = TIME_OF(to.key) - TIME_OF(from.key);
    if (rise < 0 || length > GAP_MAX_MS) return 0;
    if (!facts->limited[s]) return 1;
    const double possible = facts->per_ms[s] * (double)length + (double)facts->allowance[s];
    const double hair = 1 + possible * 0x1p-20;
    if (facts->width[s] && (double)rise + (double)facts->width[s] <= possible + hair) return 0; /* a turn more fits */
    return (double)rise + hair <= possible;
}

/* Writes one flow; 0 where it is not plain. */
static int say(const Facts *facts, int64_t s, Reading from, Reading to, int64_t sign, int64_t record,
               const Flows *out, int64_t at) {
    if (!is_plain(facts, s, from, to)) return 0;
    const int64_t start = TIME_OF(from.key), end = TIME_OF(to.key);
    const uint8_t flags = from.flags | to.flags;
    out->point[at] = facts->point[s];
    out->sign[at] = sign;
    out->start[at] = start;
    out->end[at] = end;
    out->amount[at] = to.value * facts->numerator[s] - from.value * facts->numerator[s];
    out->measured[at] = end - start <= facts->near_ms[s] && !(flags & ESTIMATED);
    out->rounded[at] = ((flags & ROUNDED) != 0) + ((flags & EDITED) ? ONE_EDITED : 0);
    out->record[at] = record;
    return 1;
}

/* Readings of one run, and the neighbours in memory of those that are older than the newest known. */
typedef struct {
    const int64_t *key, *value;
    const uint8_t *flags;
    const int64_t *record, *before, *before_value, *after, *after_value;
    const uint8_t *before_flags, *after_flags;
} Run;

/* The flows of rows first..end, all of one series, from `at` on; `old`: how many old rows came before. Returns
   where the flows end, -1 where something is not plain. `booked`: what they add to the ledger. */
static int64_t chain(const Facts *facts, const Run *run, int64_t first, int64_t end, int64_t old, const Flows *out,
                     int64_t at, int64_t *booked) {
    const int64_t s = run->key[first] >> TIME_BITS;
    const Reading newest = {facts->newest[s], facts->newest_value[s], facts->newest_flags[s]};
    Reading previous = {NONE, 0, 0}, next = {NONE, 0, 0};
    int64_t previous_record = 0, sum = 0;
    if (!facts->simple[s] || (newest.key != NONE && newest.flags & CONFLICT)) return -1;
    for (int64_t i = first; i < end; i++) {
        const Reading here = {run->key[i], run->value[i], run->flags[i]};
        const int64_t record = run->record[i];
        Reading before = newest, after = {NONE, 0, 0};
        if (here.key <= newest.key) {
            before = (Reading){run->before[old], run->before_value[old], run->before_flags[old]};
            after = (Reading){run->after[old], run->after_value[old], run->after_flags[old]};
            old++;
        }
        const int head = i == first || previous.key <= before.key;
        if (head && next.key != NONE) { /* the line before goes on to what was known */
            if (!say(facts, s, previous, next, 1, previous_record, out, at++)) return -1;
            sum += next.value - previous.value;
        }
        if (head && before.key != NONE && after.key != NONE) {
            if (!say(facts, s, before, after, -1, record, out, at++)) return -1;
            sum -= after.value - before.value;
        }
        const Reading from = head ? before : previous;
        if (from.key != NONE) {
            const int64_t later = head || record > previous_record ? record : previous_record;
            if (!say(facts, s, from, here, 1, later, out, at++)) return -1;
            sum += here.value - from.value;
        }
        previous = here;
        previous_record = record;
        next = after;
    }
    if (next.key != NONE) {
        if (!say(facts, s, previous, next, 1, previous_record, out, at++)) return -1;
        sum += next.value - previous.value;
    }
    *booked += sum;
    return at;
}

/* n readings sorted by key, none known, none in conflict. Of those with key <= newest of their series, in their
   order: before, after and their values and flags. Returns the number of flows; `general` is 1 for the readings of
   series that are not plain, which are left out; `booked` by series is raised. */
int64_t meterflow_chain(int64_t n, const int64_t *key, const int64_t *value, const uint8_t *flags,
                        const int64_t *record, const int64_t *before, const int64_t *before_value,
                        const uint8_t *before_flags, const int64_t *after, const int64_t *after_value,
                        const uint8_t *after_flags, const int64_t *newest, const int64_t *newest_value,
                        const uint8_t *newest_flags, const int64_t *numerator, const int64_t *near_ms,
                        const int64_t *point, const int64_t *allowance, const int64_t *width,
                        const uint8_t *simple, const uint8_t *limited, const double *per_ms, int64_t *booked,
                        uint8_t *general, int64_t *out_point, int64_t *out_sign, int64_t *out_start, int64_t *out_end,
                        int64_t *out_amount, int64_t *out_measured, int64_t *out_rounded, int64_t *out_record) {
    const Facts facts = {newest, newest_value, newest_flags, numerator, near_ms, point, allowance, width, simple,
                         limited, per_ms};
    const Run run = {key, value, flags, record, before, before_value, after, after_value, before_flags, after_flags};
    const Flows out = {out_point, out_sign, out_start, out_end, out_amount, out_measured, out_rounded, out_record};
    int64_t at = 0, old = 0;
    for (int64_t first = 0, end; first < n; first = end) {
        const int64_t s = key[first] >> TIME_BITS;
        int64_t more = 0;
        for (end = first; end < n && key[end] >> TIME_BITS == s; end++) more += key[end] <= newest[s];
        const int64_t done = chain(&facts, &run, first, end, old, &out, at, &booked[s]);
        for (int64_t i = first; i < end; i++) general[i] = done < 0;
        at = done < 0 ? at : done;
        old += more;
    }
    return at;
}

/* Rows (by key) that lie behind all of their series of earlier records (`seen`: the newest time in these) and may not
   count on from the reading before them as of their record, or lie within `watched`, the greatest key in reach of
   a doubt of their series; ascending. Returns how many. A row is also named where more than steps_max rows of
   later records lie before it, and where the reading before it came twice: which of the two counts is not told here. */
int64_t meterflow_breaks(int64_t n, const int64_t *key, const int64_t *value, const int64_t *record, const int64_t *seen,
                         const int64_t *newest, const int64_t *newest_value, const int64_t *watched,
                         const int64_t *allowance, const int64_t *width, const uint8_t *simple, const uint8_t *limited,
                         const double *per_ms, int64_t steps_max, int64_t *rows) {
    const Facts facts = {newest, newest_value, 0, 0, 0, 0, allowance, width, simple, limited, per_ms};
    int64_t count = 0;
    for (int64_t i = 0; i < n; i++) {
        const int64_t s = key[i] >> TIME_BITS;
        if (TIME_OF(key[i]) <= seen[i]) continue;
        int64_t p = i - 1, steps = 0;
        while (p >= 0 && key[p] >> TIME_BITS == s && record[p] > record[i] && steps < steps_max) {
            p--;
            steps++;
        }
        Reading from = {newest[s], newest_value[s], 0};
        if (p >= 0 && key[p] >> TIME_BITS == s && key[p] > newest[s]) from = (Reading){key[p], value[p], 0};
        const Reading to = {key[i], value[i], 0};
        const int plain = from.key == NONE || (from.key != to.key && simple[s] && is_plain(&facts, s, from, to));
        const int again = p >= 0 && (key[p] == newest[s] || (p > 0 && key[p] == key[p - 1]) || key[p] == key[p + 1]);
        rows[count] = i;
        count += !plain || again || steps == steps_max || key[i] <= watched[s];
    }
    return count;
}
