/* Cells by (series, span): blocks of neighbouring spans, found by search in two arrays of ascending keys. */
#include "search.h"

#define SERIES_SHIFT 40
#define BIAS (INT64_C(1) << 38)

enum { NONE_MADE, ALL_MADE, SOME_MADE };

typedef struct {
    int64_t size;
    const int64_t *keys;
    const int32_t *numbers;
    int64_t at;
} Part;

/* The number of a block, -1 without any. */
static int64_t number_of(Part *part, int64_t key) {
    part->at = lower_bound(part->size, part->keys, part->at, key);
    return part->at < part->size && part->keys[part->at] == key ? part->numbers[part->at] : -1;
}

/* index: of each row its cell, -1 where there is none; of rows that are not to be `made` also where it does not
   exist. lacking: the keys of blocks that are to be made and are not there, once for rows that follow each other;
   their count is returned. recent: of every series the block asked for last, then (from `size` on) its number. */
int64_t meterflow_cells(int64_t n, int64_t size, int64_t shift, const int64_t *series, const int64_t *span,
                        int64_t mode, const uint8_t *made, int64_t old_size, const int64_t *old_keys,
                        const int32_t *old_numbers, int64_t new_size, const int64_t *new_keys,
                        const int32_t *new_numbers, const uint8_t *exists, int32_t *recent, int64_t *index,
                        int64_t *lacking) {
    Part old = {old_size, old_keys, old_numbers, 0}, new = {new_size, new_keys, new_numbers, 0};
    int64_t count = 0, s = -1, block = 0, number = -1, key = 0, last = -1;
    for (int64_t i = 0; i < n; i++) {
        const int64_t wanted = span[i] >> shift;
        const int make = mode == SOME_MADE ? made[i] : mode == ALL_MADE;
        if (series[i] != s || wanted != block) {
            s = series[i];
            block = wanted;
            key = (int64_t)((uint64_t)s << SERIES_SHIFT) + BIAS + block;
            if (s < size && recent[s] == block) {
                number = recent[size + s];
            } else {
                number = number_of(&new, key);
                if (number < 0) number = number_of(&old, key);
                if (number >= 0) {
                    recent[s] = (int32_t)block;
                    recent[size + s] = (int32_t)number;
                }
            }
        }
        if (number < 0) {
            index[i] = -1;
            if (make && key != last) lacking[count++] = last = key;
            continue;
        }
        const int64_t cell = ((int64_t)number << shift) + (span[i] & ((INT64_C(1) << shift) - 1));
        index[i] = make || exists[cell] ? cell : -1;
    }
    return count;
}

/* Two arrays of ascending keys, with their numbers, become one; no key is in both. */
int64_t meterflow_join_keys(int64_t n, const int64_t *key, const int32_t *number, int64_t m, const int64_t *other_key,
                            const int32_t *other_number, int64_t *out_key, int32_t *out_number) {
    int64_t i = 0, j = 0;
    while (i < n || j < m) {
        const int first = j == m || (i < n && key[i] < other_key[j]);
        out_key[i + j] = first ? key[i] : other_key[j];
        out_number[i + j] = first ? number[i] : other_number[j];
        i += first;
        j += !first;
    }
    return n + m;
}
