/* Rows of results as columns: what cells hold, in codes of words, exact decimals of 128 bits, and times. */
#include <stdint.h>

#define TIME_FIRST_MS INT64_C(946684800000)
#define EDITED (1 << 16)
#define SHAPED (1 << 28)
#define ONE_BETWEEN (1 << 20)
#define ONE_OFF (1 << 24)

enum { VALID, ESTIMATE, DOUBTFUL, PARTIAL, MISSING };
enum { IS_ROUNDED = 1, IS_HELD = 2, IS_EDITED = 16, IS_PROFILE = 32, IS_REPLACED = 64 };
enum { START, END, REVISION, REPORTED, POSITION };

static int quality(int64_t known, int64_t measured, int64_t length, int64_t suspect) {
    if (known == 0) return MISSING;
    if (known < length) return PARTIAL;
    if (suspect > 0) return DOUBTFUL;
    return measured < known ? ESTIMATE : VALID;
}

static int marks(int64_t rounded) {
    return (rounded % EDITED > 0 ? IS_ROUNDED : 0) | (rounded % SHAPED >= EDITED ? IS_EDITED : 0) |
           (rounded >= SHAPED ? IS_PROFILE : 0);
}

static int unknown(int64_t held) {
    return (held % ONE_BETWEEN > 0 ? IS_HELD : 0) | (held % ONE_OFF >= ONE_BETWEEN ? IS_REPLACED : 0);
}

static void put(int64_t *pair, __int128 value) {
    pair[0] = (int64_t)value;
    pair[1] = (int64_t)(value >> 64);
}

/* The story of row r: `numbers` as above, a column of `room` each, and the code of its state. */
static int told(int64_t room, int64_t r, int64_t *numbers, int64_t start, int64_t end, int64_t revision,
                int64_t reported, int64_t position, int gone, int64_t frontier) {
    numbers[START * room + r] = start;
    numbers[END * room + r] = end;
    numbers[REVISION * room + r] = revision;
    numbers[REPORTED * room + r] = reported < TIME_FIRST_MS ? TIME_FIRST_MS : reported;
    numbers[POSITION * room + r] = gone ? -position - 1 : position;
    if (!gone && end > frontier) return 0;
    return revision > 0 ? 2 : 1;
}

/* n base spans as rows `first`.. of columns of `room` each. By point: base, factor, kinds, lane, frontier and four
   texts (a row of `points` numbers each). codes: the texts, then quality, flags, state and cause. */
int64_t meterflow_interval_rows(int64_t n, int64_t points, const int64_t *point, const int64_t *span,
                                const int64_t *index, const int64_t *amount, const int32_t *known,
                                const int32_t *estimated, const int32_t *held, const int32_t *rounded,
                                const uint8_t *readings, const int32_t *revision, const uint8_t *cause,
                                const int64_t *reported, const int64_t *base, const int64_t *factor,
                                const int64_t *kinds, const int64_t *lane, const int32_t *texts,
                                const int64_t *frontier, const int64_t *positions, int64_t first, int64_t room,
                                int32_t *codes, int64_t *numbers, int64_t *amounts, uint8_t *there,
                                double *share) {
    for (int64_t i = 0; i < n; i++) {
        const int64_t p = point[i], c = index[i], r = first + i, length = base[p], end = (span[i] + 1) * length;
        const int64_t measured = known[c] - estimated[c];
        const int gone = known[c] == 0 && held[c] == 0 && readings[c] == 0;
        for (int64_t text = 0; text < 4; text++) codes[text * room + r] = texts[text * points + p];
        codes[4 * room + r] = quality(known[c], measured, length, 0);
        codes[5 * room + r] = marks(rounded[c]) | unknown(held[c]) | (int32_t)kinds[p];
        codes[6 * room + r] = told(room, r, numbers, end - length, end, revision[c], reported[c],
                                   positions[lane[p]], gone, frontier[p]);
        codes[7 * room + r] = cause[c];
        put(amounts + 2 * r, (__int128)amount[c] * factor[p]);
        there[r] = known[c] != 0;
        share[r] = (double)measured / (double)length;
    }
    return n;
}

/* Numbers each column's codes anew, by first appearance. words: how many there are of each column; scratch: as many
   numbers, all -1, as they are again in the end; used: the codes that appear, a column of `room` each; counts. */
int64_t meterflow_renumber(int64_t n, int64_t columns, int64_t room, const int64_t *words, int32_t *scratch,
                           int32_t *codes, int32_t *used, int64_t *counts) {
    for (int64_t column = 0; column < columns; column++) {
        int32_t *code = codes + column * room, *seen = used + column * room, count = 0, last = -1, number = -1;
        for (int64_t i = 0; i < n; i++) {
            if (code[i] != last) {
                last = code[i];
                if (scratch[last] < 0) {
                    seen[count] = last;
                    scratch[last] = count++;
                }
                number = scratch[last];
            }
            code[i] = number;
        }
        for (int32_t i = 0; i < count; i++) scratch[seen[i]] = -1;
        counts[column] = count;
        scratch += words[column];
    }
    return 0;
}

/* amount * numerator / denominator, rounded half to even; 0 where it does not fit. */
static int64_t scaled(int64_t amount, int64_t numerator, int64_t denominator) {
    const __int128 product = (__int128)amount * numerator;
    __int128 quotient = product / denominator, rest = product - quotient * denominator;
    if (rest < 0) {
        quotient--;
        rest += denominator;
    }
    quotient += 2 * rest > denominator || (2 * rest == denominator && (quotient & 1));
    const __int128 most = (__int128)1 << 62;
    return quotient < most && quotient > -most ? (int64_t)quotient : 0;
}

/* The dated factor of a kind in force at `start`; -1: none. dated: from, to, numerator, denominator of each. */
static int64_t factor_at(const int64_t *until, const int64_t *dated, int64_t kind, int64_t start) {
    int64_t found = -1;
    for (int64_t f = kind ? until[kind - 1] : 0; f < until[kind]; f++)
        if (start >= dated[4 * f] && start < dated[4 * f + 1]) found = f;
    return found;
}

/* n spans of accounts as rows `first`.. of columns of `room` each. start, end, expected, frontier, position: of each
   row. By account: five texts (a row of `accounts` numbers each), and for each of two figures its kind of factors.
   codes: the texts, then class, quality, state and cause. */
int64_t meterflow_rollup_rows(int64_t n, int64_t accounts, const int64_t *account, const int64_t *cls,
                              const int64_t *index, const int64_t *start, const int64_t *end,
                              const int64_t *expected, const int64_t *frontier, const int64_t *position,
                              const int64_t *amount, const int64_t *known, const int64_t *estimated,
                              const int64_t *held, const int64_t *suspect, const int64_t *revision,
                              const uint8_t *cause, const int64_t *reported, const int32_t *texts,
                              const int64_t *kinds, const int64_t *until, const int64_t *dated, int64_t first,
                              int64_t room, int32_t *codes, int64_t *numbers, int64_t *amounts,
                              uint8_t *there, double *share) {
    for (int64_t i = 0; i < n; i++) {
        const int64_t a = account[i], c = index[i], r = first + i, measured = known[c] - estimated[c];
        const int gone = known[c] == 0 && held[c] == 0;
        for (int64_t text = 0; text < 5; text++) codes[text * room + r] = texts[text * accounts + a];
        codes[5 * room + r] = (int32_t)cls[i];
        codes[6 * room + r] = quality(known[c], measured, expected[i], suspect[c]);
        codes[7 * room + r] = told(room, r, numbers, start[i], end[i], revision[c], reported[c], position[i], gone,
                                   frontier[i]);
        codes[8 * room + r] = cause[c];
        put(amounts + 2 * r, (__int128)amount[c] * 1000);
        there[r] = known[c] != 0;
        for (int64_t figure = 0; figure < 2; figure++) {
            const int64_t f = factor_at(until, dated, kinds[figure * accounts + a], start[i]);
            const int64_t value = f < 0 ? 0 : scaled(amount[c], dated[4 * f + 2], dated[4 * f + 3]);
            put(amounts + 2 * ((figure + 1) * room + r), (__int128)value * 1000);
            there[(figure + 1) * room + r] = f >= 0 && known[c] != 0;
        }
        share[r] = expected[i] > 0 ? (double)measured / (double)expected[i] : 0.0;
    }
    return n;
}
