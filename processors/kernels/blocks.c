/* Cells by (series, span), where the block of a span is the one that its series was asked for last. */
#include <stdint.h>

/* index: of each row its cell, -1 where another block is wanted; the numbers of these rows, whose count is returned.
   recent: of every series the block asked for last, then (from `size` on) its number. A block holds 2^shift spans. */
int64_t meterflow_recent(int64_t n, int64_t size, int64_t shift, const int64_t *series, const int64_t *span,
                         const int32_t *recent, int64_t *index, int64_t *others) {
    int64_t count = 0, s = -1, block = 0, base = -1;
    for (int64_t i = 0; i < n; i++) {
        const int64_t wanted = span[i] >> shift;
        if (series[i] != s || wanted != block) {
            s = series[i];
            block = wanted;
            base = recent[s] == block ? (int64_t)recent[size + s] << shift : -1;
        }
        index[i] = base < 0 ? -1 : base + (span[i] & ((INT64_C(1) << shift) - 1));
        others[count] = i;
        count += base < 0;
    }
    return count;
}
