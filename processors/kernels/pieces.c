/* Flows cut at the edges of base spans and added up by point and span, and dealt out to accounts.

   Tables hold a cell for every span from the first to the last one of each owner (a point or an account):
   what is added up lies close together in time, so that no sorting is needed. */
#include <stdint.h>

#define LONG_MS (35LL * 86400000LL)
#define CHUNK_CELLS 4096

enum { HELD, COUNTED, OFF, ONE_OFF = 1 << 20 };
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
        int64_t number = time / length;
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

/* low, high: of each point the first and last span that [start, end) of any of its rows reaches; rows of
   points without base spans are left out. */
int64_t meterflow_reach(int64_t n, const int64_t *point, const int64_t *start, const int64_t *end,
                        const int64_t *base, int64_t *low, int64_t *high) {
    Span from = {0, 0, 0}, to = {0, 0, 0};
    for (int64_t i = 0; i < n; i++) {
        const int64_t p = point[i], length = base[p];
        if (length <= 0) continue;
        const int64_t first = span_of(&from, start[i], length), last = span_of(&to, end[i] - 1, length);
        if (first < low[p]) low[p] = first;
        if (last > high[p]) high[p] = last;
    }
    return 0;
}

static void add(Piece *cell, int64_t sign, int64_t amount, int64_t length, int64_t booked, int64_t measured,
                int64_t rounded, int64_t reported) {
    cell->amount += sign * amount;
    cell->known += sign * length * (booked == COUNTED);
    cell->measured += sign * length * measured;
    cell->held += sign * (booked == HELD ? length : booked == OFF ? ONE_OFF : 0);
    cell->rounded += (int32_t)(sign * rounded);
    if (reported > cell->reported || !(cell->kinds & PIECE)) cell->reported = reported;
    cell->kinds |= PIECE;
}

/* Adds flows to the table; the cell of (point, span) is number at[point] + span. */
int64_t meterflow_cut(int64_t n, const int64_t *point, const int64_t *sign, const int64_t *start,
                      const int64_t *end, const int64_t *amount, const int64_t *booked,
                      const int64_t *measured, const int64_t *rounded, const int64_t *record,
                      const int64_t *base, const int64_t *log_time, const int64_t *at, Piece *table) {
    Span from = {0, 0, 0}, to = {0, 0, 0};
    for (int64_t i = 0; i < n; i++) {
        const int64_t length = base[point[i]];
        if (length <= 0) continue;
        const int64_t first = span_of(&from, start[i], length), last = span_of(&to, end[i] - 1, length);
        const int64_t whole = end[i] - start[i], reported = log_time[record[i]];
        Piece *cells = table + at[point[i]];
        int64_t done = 0, low = start[i];
        for (int64_t span = first; span <= last; span++) {
            const int64_t high = span == last ? end[i] : (span + 1) * length;
            const int64_t until = span == last ? amount[i] : read_off(amount[i], whole, high - start[i]);
            add(cells + span, sign[i], until - done, high - low, booked[i], measured[i], rounded[i], reported);
            done = until;
            low = high;
        }
    }
    return 0;
}

/* Counts readings in their spans. */
int64_t meterflow_touch(int64_t n, const int64_t *point, const int64_t *time, const int64_t *record,
                        const int64_t *base, const int64_t *log_time, const int64_t *at, Piece *table) {
    Span last = {0, 0, 0};
    for (int64_t i = 0; i < n; i++) {
        const int64_t length = base[point[i]], now = log_time[record[i]];
        if (length <= 0) return -1;
        Piece *cell = table + at[point[i]] + span_of(&last, time[i], length);
        if (cell->readings == 0 || now < cell->seen) cell->seen = now;
        cell->readings++;
        cell->kinds |= READ;
    }
    return 0;
}

/* Spans that are wanted in any case. */
int64_t meterflow_want(int64_t n, const int64_t *point, const int64_t *first, const int64_t *last,
                       const int64_t *at, Piece *table) {
    for (int64_t i = 0; i < n; i++)
        for (int64_t span = first[i]; span <= last[i]; span++) table[at[point[i]] + span].kinds |= WANTED;
    return 0;
}

/* The table's cells with anything in them, by point and span. rows: twelve columns of `room` numbers each.
   What changes of a span is said where it is open, and where it is final if it is a change at all. */
int64_t meterflow_pieces(int64_t points, const int64_t *low, const int64_t *high, const int64_t *at,
                         const int64_t *base, const int64_t *before, const Piece *table, int64_t room,
                         int64_t *rows) {
    int64_t n = 0;
    for (int64_t p = 0; p < points; p++)
        for (int64_t span = low[p]; span <= high[p]; span++) {
            const Piece *cell = table + at[p] + span;
            if (cell->kinds == 0) continue;
            const int differs = cell->amount || cell->known || cell->measured || cell->held || cell->rounded;
            const int final = (span + 1) * base[p] <= before[p];
            const int said = (cell->kinds & PIECE) && (differs || !final);
            if (!said && !(cell->kinds & (READ | WANTED))) continue;
            const int made = said || (cell->kinds & READ);
            const int64_t row[12] = {p,
                                     span,
                                     (cell->kinds & (READ | WANTED)) | (made ? MADE : 0) | (said ? SAID : 0),
                                     cell->amount,
                                     cell->known,
                                     cell->measured,
                                     cell->held,
                                     cell->rounded,
                                     differs && final,
                                     cell->reported,
                                     cell->readings,
                                     cell->seen};
            for (int column = 0; column < 12; column++) rows[column * room + n] = row[column];
            n++;
        }
    return n;
}

/* Adds rows as above to cells (-1: there is none); keep: which of them are to be said anew. */
int64_t meterflow_settle(int64_t n, int64_t room, const int64_t *rows, const int64_t *index,
                         const int64_t *cause_of_point, uint8_t *exists, int64_t *amount, int32_t *known,
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
            if (readings[c] == 0) {
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
        if (rows[8 * room + i]) cause[c] = (uint8_t)cause_of_point[rows[i]];
        if (rows[9 * room + i] > reported[c]) reported[c] = rows[9 * room + i];
    }
    return 0;
}

/* Adds changes of points, at times, to the spans of `step` ms of every owner that a point belongs to; time:
   of each of `layers` all rows. Owners of a layer come behind those of the one before. */
int64_t meterflow_deal(int64_t n, int64_t layers, int64_t owners, const int64_t *point, const int64_t *time, const int64_t *amount,
                       const int64_t *known, const int64_t *measured, const int64_t *held,
                       const int64_t *rounded, const int64_t *revision, const int64_t *reported,
                       const int64_t *first, const int64_t *owner, const int64_t *sign, const int64_t *step,
                       const int64_t *at, Share *table) {
    Span last = {0, 0, 0};
    for (int64_t row = 0; row < layers * n; row++) {
        const int64_t layer = row / n, i = row % n;
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
            share->there = 1;
        }
    }
    return 0;
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
