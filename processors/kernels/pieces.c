/* Flows cut at the edges of base spans and added up by point and span, and dealt out to accounts.

   Tables hold a cell for every span from the first to the last one of each owner (a point or an account):
   what is added up lies close together in time, so that no sorting is needed. Of points one after the other is
   taken, whose cells fit into a processor's nearest memory. */
#include <stdint.h>
#include <string.h>

#define LONG_MS (35LL * 86400000LL)
#define CHUNK_CELLS 4096

enum { HELD, COUNTED, OFF, BETWEEN, ONE_BETWEEN = 1 << 20, ONE_OFF = 1 << 24 };
enum { MADE = 1, SAID = 2, READ = 4, WANTED = 8, PIECE = 16 };

typedef struct {
    int64_t amount, known, measured, held, reported, seen;
    int32_t rounded, readings;
    int64_t kinds;
} Piece;

typedef struct {
    int64_t amount, known, measured, held, rounded, revision, reported, there;
} Share;

/* Spans of a length, by time: what comes next mostly lies in the same one. */
typedef struct {
    int64_t length, number, start;
} Span;

static int64_t span_of(Span *last, int64_t time, int64_t length) {
    if (length != last->length || time < last->start || time - last->start >= length) {
        const int near = length == last->length && time >= last->start && time - last->start < 2 * length;
        int64_t number = near ? last->number + 1 : time / length;
        if (number * length > time) number--;
        last->length = length;
        last->number = number;
        last->start = number * length;
    }
    return last->number;
}

/* floor(amount * offset / length) for 0 <= offset <= length. */
static int64_t read_off(int64_t amount, int64_t length, int64_t offset) {
    if (length > LONG_MS) {
        const __int128 whole = (__int128)amount * offset;
        const __int128 quotient = whole / length;
        return (int64_t)(quotient - (quotient * length > whole));
    }
    int64_t quotient = amount / length;
    if (quotient * length > amount) quotient--;
    return quotient * offset + (amount - quotient * length) * offset / length;
}

/* Rows by point: flows, readings, and spans that are wanted in any case, in two lists. */
typedef struct {
    int64_t n;
    const int64_t *point, *sign, *start, *end, *amount, *booked, *measured, *rounded, *record;
} Flows;

typedef struct {
    int64_t n;
    const int64_t *point, *time, *record;
} Reads;

typedef struct {
    int64_t n;
    const int64_t *point, *first, *last;
} Wanted;

/* Where each list's rows of a point begin and end. */
typedef struct {
    int64_t point, flow, flows, read, reads, want[2], wants[2];
} Part;

static int64_t until(int64_t n, const int64_t *point, int64_t from, int64_t p) {
    while (from < n && point[from] == p) from++;
    return from;
}

/* The part of the next point; 0 behind the last one, -1 where a list is not by point. */
static int next(Part *part, const Flows *flows, const Reads *reads, const Wanted *wanted) {
    int64_t p = INT64_MAX;
    const int64_t last = part->point;
    part->flow = part->flows;
    part->read = part->reads;
    if (part->flow < flows->n && flows->point[part->flow] < p) p = flows->point[part->flow];
    if (part->read < reads->n && reads->point[part->read] < p) p = reads->point[part->read];
    for (int list = 0; list < 2; list++) {
        const int64_t at = part->want[list] = part->wants[list];
        if (at < wanted[list].n && wanted[list].point[at] < p) p = wanted[list].point[at];
    }
    if (p == INT64_MAX) return 0;
    if (p <= last) return -1;
    part->point = p;
    part->flows = until(flows->n, flows->point, part->flow, p);
    part->reads = until(reads->n, reads->point, part->read, p);
    for (int list = 0; list < 2; list++)
        part->wants[list] = until(wanted[list].n, wanted[list].point, part->want[list], p);
    return 1;
}

static void widen(int64_t first, int64_t last, int64_t *low, int64_t *high) {
    if (first < *low) *low = first;
    if (last > *high) *high = last;
}

/* First and last span of a point of which anything is to be told. */
static void reach(const Part *part, int64_t length, const Flows *flows, const Reads *reads, const Wanted *wanted,
                  int64_t *low, int64_t *high) {
    Span from = {0, 0, 0}, to = {0, 0, 0}, at = {0, 0, 0};
    *low = INT64_MAX;
    *high = INT64_MIN;
    for (int64_t i = part->flow; i < part->flows; i++)
        widen(span_of(&from, flows->start[i], length), span_of(&to, flows->end[i] - 1, length), low, high);
    for (int64_t i = part->read; i < part->reads; i++) {
        const int64_t span = span_of(&at, reads->time[i], length);
        widen(span, span, low, high);
    }
    for (int list = 0; list < 2; list++)
        for (int64_t i = part->want[list]; i < part->wants[list]; i++)
            if (wanted[list].first[i] <= wanted[list].last[i])
                widen(wanted[list].first[i], wanted[list].last[i], low, high);
}

/* sizes: how many spans lie between the first and the last one of all points, and of the point with most of them.
   -1 where a list is not by point. */
int64_t meterflow_reach(int64_t n, const int64_t *point, const int64_t *start, const int64_t *end, int64_t m,
                        const int64_t *read, const int64_t *time, int64_t k, const int64_t *one,
                        const int64_t *one_first, const int64_t *one_last, int64_t l, const int64_t *other,
                        const int64_t *other_first, const int64_t *other_last, const int64_t *base,
                        int64_t *sizes) {
    const Flows flows = {.n = n, .point = point, .start = start, .end = end};
    const Reads reads = {.n = m, .point = read, .time = time};
    const Wanted wanted[2] = {{k, one, one_first, one_last}, {l, other, other_first, other_last}};
    Part part = {.point = -1};
    int64_t low, high;
    int found;
    sizes[0] = sizes[1] = 0;
    while ((found = next(&part, &flows, &reads, wanted)) > 0) {
        if (base[part.point] <= 0) continue;
        reach(&part, base[part.point], &flows, &reads, wanted, &low, &high);
        if (low > high) continue;
        sizes[0] += high - low + 1;
        if (high - low >= sizes[1]) sizes[1] = high - low + 1;
    }
    return found;
}

static void add(Piece *cell, int64_t sign, int64_t amount, int64_t length, int64_t booked, int64_t measured,
                int64_t rounded, int64_t reported) {
    cell->amount += sign * amount;
    cell->known += sign * length * (booked == COUNTED);
    cell->measured += sign * length * measured;
    cell->held += sign * (booked == HELD ? length : booked == OFF ? ONE_OFF : booked == BETWEEN ? ONE_BETWEEN : 0);
    cell->rounded += (int32_t)(sign * rounded);
    if (reported > cell->reported || !(cell->kinds & PIECE)) cell->reported = reported;
    cell->kinds |= PIECE;
}

/* Adds flows of a point to its cells; that of a span is number span - low. */
static void cut(const Part *part, int64_t length, const Flows *flows, const int64_t *log_time, int64_t low,
                Piece *cells) {
    Span from = {0, 0, 0}, to = {0, 0, 0};
    for (int64_t i = part->flow; i < part->flows; i++) {
        const int64_t start = flows->start[i], end = flows->end[i], amount = flows->amount[i];
        const int64_t first = span_of(&from, start, length), last = span_of(&to, end - 1, length);
        int64_t done = 0, begin = start;
        for (int64_t span = first; span <= last; span++) {
            const int64_t high = span == last ? end : (span + 1) * length;
            const int64_t until = span == last ? amount : read_off(amount, end - start, high - start);
            add(cells + span - low, flows->sign[i], until - done, high - begin, flows->booked[i],
                flows->measured[i], flows->rounded[i], log_time[flows->record[i]]);
            done = until;
            begin = high;
        }
    }
}

/* Counts readings of a point in their spans. */
static void touch(const Part *part, int64_t length, const Reads *reads, const int64_t *log_time, int64_t low,
                  Piece *cells) {
    Span at = {0, 0, 0};
    for (int64_t i = part->read; i < part->reads; i++) {
        Piece *cell = cells + span_of(&at, reads->time[i], length) - low;
        const int64_t now = log_time[reads->record[i]];
        if (cell->readings == 0 || now < cell->seen) cell->seen = now;
        cell->readings++;
        cell->kinds |= READ;
    }
}

/* A span with anything in it as row n. What changes of it is said where it is open, and where it is final if it is
   a change at all. Returns how many rows there are then. */
static int64_t put(int64_t n, int64_t room, int64_t *rows, int64_t point, int64_t span, int64_t length,
                   const Piece *cell, int final) {
    const int differs = cell->amount || cell->known || cell->measured || cell->held || cell->rounded;
    const int said = (cell->kinds & PIECE) && (differs || !final);
    if (!said && !(cell->kinds & (READ | WANTED))) return n;
    const int made = said || (cell->kinds & READ);
    const int64_t row[12] = {point,
                             span,
                             (cell->kinds & (READ | WANTED)) | (made ? MADE : 0) | (said ? SAID : 0),
                             cell->amount,
                             cell->known,
                             cell->measured,
                             cell->held,
                             cell->rounded,
                             differs && final,
                             cell->reported,
                             span * length,
                             cell->seen};
    for (int column = 0; column < 12; column++) rows[column * room + n] = row[column];
    return n + 1;
}

/* What changes of spans, by point and span. rows: twelve columns of `room` numbers each; cells: as many as the point
   with most spans has. Returns how many rows there are. */
int64_t meterflow_pieces(int64_t n, const int64_t *point, const int64_t *sign, const int64_t *start,
                         const int64_t *end, const int64_t *amount, const int64_t *booked,
                         const int64_t *measured, const int64_t *rounded, const int64_t *record, int64_t m,
                         const int64_t *read, const int64_t *time, const int64_t *read_record, int64_t k,
                         const int64_t *one, const int64_t *one_first, const int64_t *one_last, int64_t l,
                         const int64_t *other, const int64_t *other_first, const int64_t *other_last,
                         const int64_t *base, const int64_t *before, const int64_t *log_time, Piece *cells,
                         int64_t room, int64_t *rows) {
    const Flows flows = {n, point, sign, start, end, amount, booked, measured, rounded, record};
    const Reads reads = {m, read, time, read_record};
    const Wanted wanted[2] = {{k, one, one_first, one_last}, {l, other, other_first, other_last}};
    Part part = {.point = -1};
    int64_t count = 0, low, high;
    while (next(&part, &flows, &reads, wanted) > 0) {
        const int64_t p = part.point, length = base[p];
        if (length <= 0) continue;
        reach(&part, length, &flows, &reads, wanted, &low, &high);
        if (low > high) continue;
        memset(cells, 0, (size_t)(high - low + 1) * sizeof(Piece));
        cut(&part, length, &flows, log_time, low, cells);
        touch(&part, length, &reads, log_time, low, cells);
        for (int list = 0; list < 2; list++)
            for (int64_t i = part.want[list]; i < part.wants[list]; i++)
                for (int64_t span = wanted[list].first[i]; span <= wanted[list].last[i]; span++)
                    cells[span - low].kinds |= WANTED;
        for (int64_t span = low; span <= high; span++)
            if (cells[span - low].kinds)
                count = put(count, room, rows, p, span, length, cells + span - low,
                            (span + 1) * length <= before[p]);
    }
    return count;
}

/* Adds rows as above to cells (-1: there is none); keep: which of them are to be said anew. */
int64_t meterflow_settle(int64_t n, int64_t room, const int64_t *rows, const int64_t *index,
                         const int64_t *lane, const int64_t *cause_of_lane, uint8_t *exists, int64_t *amount, int32_t *known,
                         int32_t *estimated, int32_t *held, int32_t *rounded, uint8_t *readings,
                         int32_t *revision, uint8_t *cause, int64_t *reported, uint8_t *dirty,
                         uint8_t *keep) {
    for (int64_t i = 0; i < n; i++) {
        const int64_t c = index[i], kinds = rows[2 * room + i];
        keep[i] = c >= 0 && (kinds & (WANTED | SAID));
        if (c < 0 || !(kinds & MADE)) continue;
        exists[c] = 1;
        dirty[c / CHUNK_CELLS] = 1;
        if (kinds & READ) {
            if (readings[c] == 0 && known[c] == 0 && held[c] == 0) { /* there is a row from now on */
                keep[i] = 1;
                if (rows[11 * room + i] > reported[c]) reported[c] = rows[11 * room + i];
            }
            readings[c] = 1;
        }
        if (!(kinds & SAID)) continue;
        amount[c] += rows[3 * room + i];
        known[c] += (int32_t)rows[4 * room + i];
        if (rows[4 * room + i] != rows[5 * room + i])
            estimated[c] += (int32_t)(rows[4 * room + i] - rows[5 * room + i]);
        if (rows[6 * room + i]) held[c] += (int32_t)rows[6 * room + i];
        if (rows[7 * room + i]) rounded[c] += (int32_t)rows[7 * room + i];
        if (rows[8 * room + i]) revision[c] += (int32_t)rows[8 * room + i];
        if (rows[8 * room + i]) cause[c] = (uint8_t)cause_of_lane[lane[rows[i]]];
        if (rows[9 * room + i] > reported[c]) reported[c] = rows[9 * room + i];
    }
    return 0;
}

/* Adds changes of points, at times, to the spans of `step` ms of every owner that a point belongs to; time:
   of each of `layers` all rows. Owners of a layer come behind those of the one before. some: of each row whether it
   counts, where not `all` do. Returns how many shares there are. */
int64_t meterflow_deal(int64_t n, int64_t layers, int64_t owners, const int64_t *point, const int64_t *time,
                       int64_t all, const uint8_t *some, const int64_t *amount, const int64_t *known, const int64_t *measured, const int64_t *held,
                       const int64_t *rounded, const int64_t *revision, const int64_t *reported,
                       const int64_t *first, const int64_t *owner, const int64_t *sign, const int64_t *step,
                       const int64_t *at, Share *table) {
    Span last = {0, 0, 0};
    int64_t count = 0;
    for (int64_t row = 0; row < layers * n; row++) {
        const int64_t layer = row / n, i = row - layer * n;
        if (!all && !some[i]) continue;
        for (int64_t pair = first[point[i]]; pair < first[point[i] + 1]; pair++) {
            const int64_t o = owner[pair];
            Share *share = table + at[layer * owners + o] + span_of(&last, time[row], step[o]);
            share->amount += sign[pair] * amount[i];
            share->known += known[i];
            share->measured += measured[i];
            share->held += held[i];
            share->rounded += rounded[i];
            share->revision += revision[i];
            if (!share->there || reported[i] > share->reported) share->reported = reported[i];
            count += !share->there;
            share->there = 1;
        }
    }
    return count;
}

/* The shares that are there, by owner and span; rows: nine columns of `room` numbers each. */
int64_t meterflow_shares(int64_t owners, const int64_t *low, const int64_t *high, const int64_t *at,
                         const Share *table, int64_t room, int64_t *rows) {
    int64_t n = 0;
    for (int64_t o = 0; o < owners; o++)
        for (int64_t span = low[o]; span <= high[o]; span++) {
            const Share *share = table + at[o] + span;
            if (!share->there) continue;
            const int64_t row[9] = {o,           span,           share->amount,   share->known, share->measured,
                                    share->held, share->rounded, share->revision, share->reported};
            for (int column = 0; column < 9; column++) rows[column * room + n] = row[column];
            n++;
        }
    return n;
}
