/* Time through a batch: how far each point and plant comes, and which readings reach behind that. */
#include "search.h"

#define TIME_BITS 43
#define TIME_FIRST_MS INT64_C(946684800000)
#define NEVER (-(INT64_C(1) << 62))

/* n readings by record, of points from `least` on. keys, records: by point and record, the highest key so far (point
   and time in one) and its row's record. highest: of each plant (row) and record, the newest time; NEVER before the
   call. plant: of each reading. first: room for points + 1 numbers. */
int64_t meterflow_survey(int64_t n, int64_t least, int64_t points, int64_t width, const int64_t *point,
                         const int64_t *time, const int64_t *record, const int64_t *plant, int64_t *first,
                         int64_t *keys, int64_t *records, int64_t *highest) {
    for (int64_t p = 0; p <= points; p++) first[p] = 0;
    for (int64_t i = 0; i < n; i++) first[point[i] - least + 1]++;
    for (int64_t p = 0; p < points; p++) first[p + 1] += first[p];
    for (int64_t i = 0; i < n; i++) {
        const int64_t at = first[point[i] - least]++;
        int64_t *plants = highest + plant[i] * width + record[i];
        keys[at] = (point[i] << TIME_BITS) | (time[i] - TIME_FIRST_MS + 1);
        records[at] = record[i];
        if (time[i] > *plants) *plants = time[i];
    }
    for (int64_t i = 1; i < n; i++)
        if (keys[i] < keys[i - 1]) keys[i] = keys[i - 1];
    return 0;
}

/* Whether `frontier` has reached the end of the span that `start` is in. */
static int reached(int64_t frontier, int64_t start, int64_t length) {
    if (frontier <= start) return 0;
    int64_t number = start / length;
    if (number * length > start) number--;
    return frontier >= (number + 1) * length;
}

/* Rows that reach behind what was seen, or behind their point's patience; ascending. `over`: of each of them,
   whether it is the former. seen_*: the newest time of the series and of the point in earlier records.
   patience: of groups before each record; row: that of each group. Returns how many. */
int64_t meterflow_behind(int64_t n, int64_t width, const int64_t *point, const int64_t *time, const int64_t *start,
                         const int64_t *record, const int64_t *seen_series, const int64_t *seen_point,
                         const int64_t *patience, const int64_t *group, const int64_t *row,
                         const int64_t *base_ms, const uint8_t *interval, int64_t *rows, uint8_t *over) {
    int64_t count = 0;
    for (int64_t i = 0; i < n; i++) {
        const int64_t p = point[i], waited = patience[row[group[p]] * width + record[i]];
        const int64_t known = seen_series[i] == NEVER ? time[i] : seen_series[i];
        const int64_t from = interval[p] ? start[i] : known;
        const int64_t frontier = interval[p] || seen_point[i] < waited ? waited : seen_point[i];
        const int late = time[i] <= seen_point[i] || (interval[p] && start[i] < seen_series[i]);
        rows[count] = i;
        over[count] = (uint8_t)late;
        count += late || reached(frontier, from, base_ms[p]);
    }
    return count;
}

/* Of each of m rows, the nearest row of the same series whose record is an earlier one, in direction `step` (-1: none
   there). At most `steps_max` are looked at: beyond it sure is 0. Rows by series. */
int64_t meterflow_nearest(int64_t n, int64_t m, const int64_t *series, const int64_t *record, const int64_t *rows,
                          int64_t step, int64_t steps_max, int64_t *place, uint8_t *sure) {
    for (int64_t i = 0; i < m; i++) {
        const int64_t row = rows[i];
        int64_t at = row, steps = 0;
        while (at >= 0 && at < n && series[at] == series[row] && record[at] >= record[row] && steps < steps_max) {
            at += step;
            steps++;
        }
        const int there = at >= 0 && at < n && series[at] == series[row];
        place[i] = there ? at : -1;
        sure[i] = !there || record[at] < record[row];
    }
    return m;
}

/* Raises `reported` of cells that became final to the log time of the record through which they did. Rows are point,
   end and cell; rows that were final before, or are not yet, are left alone. before, after: every point's frontier;
   keys, records: as survey makes them, `size` of them. patience: as in behind, in ascending rows of `width`. first,
   last: records of each lane. */
int64_t meterflow_stamp(int64_t n, const int64_t *point, const int64_t *end, const int64_t *index,
                        const int64_t *before, const int64_t *after, int64_t size, const int64_t *keys,
                        const int64_t *records, int64_t width, const int64_t *patience, const int64_t *group,
                        const int64_t *row, const int64_t *lane, const int64_t *first, const int64_t *last, const int64_t *log_time,
                        int64_t *reported) {
    int64_t at = 0;
    for (int64_t i = 0; i < n; i++) {
        const int64_t p = point[i];
        if (end[i] <= before[p] || end[i] > after[p]) continue;
        const int64_t key = (p << TIME_BITS) | (end[i] - TIME_FIRST_MS + 1);
        at = lower_bound(size, keys, at, key);
        int64_t record = at < size && keys[at] >> TIME_BITS == p ? records[at] : last[lane[p]];
        const int64_t waited = lower_bound(width, patience + row[group[p]] * width, 0, end[i]) - 1;
        if (waited < record) record = waited;
        if (record < first[lane[p]]) record = first[lane[p]];
        if (record > last[lane[p]]) record = last[lane[p]];
        if (log_time[record] > reported[index[i]]) reported[index[i]] = log_time[record];
    }
    return 0;
}
