/* Runs of readings, sorted by key. */
#include "search.h"
#include <string.h>

typedef struct {
    const int64_t *key, *value;
    const uint8_t *flags;
} Run;

/* Readings first..end of a run, to the place `at`. */
static void copy(const Run *from, int64_t first, int64_t end, int64_t *key, int64_t *value, uint8_t *flags,
                 int64_t at) {
    const size_t count = (size_t)(end - first);
    memcpy(key + at, from->key + first, count * sizeof *key);
    memcpy(value + at, from->value + first, count * sizeof *value);
    memcpy(flags + at, from->flags + first, count);
}

/* Two runs become one of n + m. Keys are unique; those of a series mostly lie together in either run. */
int64_t meterflow_merge(int64_t n, const int64_t *key, const int64_t *value, const uint8_t *flags, int64_t m,
                        const int64_t *other_key, const int64_t *other_value, const uint8_t *other_flags,
                        int64_t *out_key, int64_t *out_value, uint8_t *out_flags) {
    const Run a = {key, value, flags}, b = {other_key, other_value, other_flags};
    int64_t i = 0, j = 0;
    while (i < n || j < m) {
        int64_t end = i, other_end = j;
        while (end < n && (j == m || key[end] <= other_key[j])) end++;
        copy(&a, i, end, out_key, out_value, out_flags, i + j);
        i = end;
        while (other_end < m && (i == n || other_key[other_end] < key[i])) other_end++;
        copy(&b, j, other_end, out_key, out_value, out_flags, i + j);
        j = other_end;
    }
    return n + m;
}

/* Rows that may not be new ones: not behind the newest key of their series, or of the same key as a neighbour.
   Ascending; returns how many. */
int64_t meterflow_doubtful(int64_t n, int64_t series_bits, const int64_t *key, const int64_t *newest, int64_t *rows) {
    int64_t count = 0;
    for (int64_t i = 0; i < n; i++) {
        const int again = (i > 0 && key[i] == key[i - 1]) || (i + 1 < n && key[i] == key[i + 1]);
        rows[count] = i;
        count += again || key[i] <= newest[key[i] >> series_bits];
    }
    return count;
}

/* Betters `best`: of each of m keys, the nearest key of its series in a run, before (step -1) or behind it (1), that
   has none of the flags `skip`. */
int64_t meterflow_neighbours(int64_t m, int64_t series_bits, const int64_t *wanted, int64_t n, const int64_t *key,
                             const uint8_t *flags, int64_t skip, int64_t step, int64_t *best) {
    int64_t near = 0;
    for (int64_t i = 0; i < m; i++) {
        near = lower_bound(n, key, near, wanted[i] + (step > 0));
        int64_t at = near - (step < 0);
        while (at >= 0 && at < n && flags[at] & skip) at += step;
        if (at < 0 || at >= n || key[at] >> series_bits != wanted[i] >> series_bits) continue;
        if (best[i] == -1 || (step < 0 ? key[at] > best[i] : key[at] < best[i])) best[i] = key[at];
    }
    return m;
}
