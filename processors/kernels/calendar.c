/* Where spans of accounts start and end, by tables of the calendars' spans. */
#include <stdint.h>

#define QUARTER_MS 900000

enum { GRID, QUARTER };

/* Series are account * classes + class. By account: its zone, and how long its spans of the first class are. Tables
   by zone and class: low, the span of the first instant; size, how many instants; at, where they begin among
   `starts`. Returns how many rows were told: fewer than n where a span or the one behind it is in no table. */
int64_t meterflow_edges(int64_t n, int64_t classes, const int64_t *series, const int64_t *span, const int64_t *zone,
                        const int64_t *grid_ms, const int64_t *low, const int64_t *size, const int64_t *at,
                        const int64_t *starts, int64_t *start, int64_t *end) {
    for (int64_t i = 0; i < n; i++) {
        const int64_t account = series[i] / classes, cls = series[i] - account * classes;
        if (cls <= QUARTER) {
            const int64_t step = cls == GRID ? grid_ms[account] : QUARTER_MS;
            start[i] = span[i] * step;
            end[i] = start[i] + step;
            continue;
        }
        const int64_t table = zone[account] * classes + cls, number = span[i] - low[table];
        if (number < 0 || number + 1 >= size[table]) return i;
        start[i] = starts[at[table] + number];
        end[i] = starts[at[table] + number + 1];
    }
    return n;
}
