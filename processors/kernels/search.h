/* Search in ascending numbers. */
#ifndef METERFLOW_SEARCH_H
#define METERFLOW_SEARCH_H
#include <stdint.h>

/* The first of n ascending numbers that is not below `wanted`, n if none is; looked for from `from` on, in either
   direction: mostly it is near. */
static inline int64_t lower_bound(int64_t n, const int64_t *values, int64_t from, int64_t wanted) {
    int64_t low = from, high = from, step = 1;
    if (from < n && values[from] < wanted) {
        low = from + 1;
        while (low + step <= n && values[low + step - 1] < wanted) {
            low += step;
            step *= 2;
        }
        high = low + step < n ? low + step : n;
    } else {
        while (high - step >= 0 && values[high - step] >= wanted) {
            high -= step;
            step *= 2;
        }
        low = high - step >= 0 ? high - step + 1 : 0;
    }
    while (low < high) {
        const int64_t middle = low + (high - low) / 2;
        if (values[middle] < wanted) low = middle + 1;
        else high = middle;
    }
    return low;
}
#endif
