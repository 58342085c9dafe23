/* Ordering the readings of a batch, which come by record and mostly in the order of their times. */
#include <stdint.h>

#define NOT_NEARLY_SORTED (-1)

/* Within one series: the newest time of earlier records, before each reading. */
static void see(int64_t n, const int64_t *rows, const int64_t *time, const int64_t *record, int64_t newest,
                int64_t *seen) {
    int64_t highest = newest, before = newest;
    for (int64_t i = 0; i < n; i++) {
        const int64_t row = rows[i];
        if (i == 0 || record[row] != record[rows[i - 1]]) before = highest;
        seen[i] = before;
        if (time[row] > highest) highest = time[row];
    }
}

/* Insertion, stable: quick where hardly anything is out of order. What it moved, -1 beyond `moves_max`. */
static int64_t insert(int64_t n, int64_t *rows, int64_t *seen, const int64_t *time, int64_t moves_max) {
    int64_t moves = 0;
    for (int64_t i = 1; i < n; i++) {
        const int64_t row = rows[i], before = seen[i], at = time[row];
        int64_t j = i;
        for (; j > 0 && time[rows[j - 1]] > at; j--) {
            rows[j] = rows[j - 1];
            seen[j] = seen[j - 1];
        }
        rows[j] = row;
        seen[j] = before;
        moves += i - j;
        if (moves > moves_max) return NOT_NEARLY_SORTED;
    }
    return moves;
}

/* order: the rows by series, time and row; seen: of each of them in this order. first: room for size + 1
   numbers. newest: of each of `size` series. Rows come by record. Returns -1 where rows are far from sorted. */
int64_t meterflow_order(int64_t n, int64_t size, const int64_t *series, const int64_t *time,
                        const int64_t *record, const int64_t *newest, int64_t *first, int64_t *order,
                        int64_t *seen) {
    for (int64_t s = 0; s <= size; s++) first[s] = 0;
    for (int64_t i = 0; i < n; i++) first[series[i] + 1]++;
    for (int64_t s = 0; s < size; s++) first[s + 1] += first[s];
    for (int64_t i = 0; i < n; i++) order[first[series[i]]++] = i;
    int64_t start = 0, left = 16 * n + 1024; /* first[s] is where series s ends now */
    for (int64_t s = 0; s < size; s++) {
        const int64_t count = first[s] - start;
        see(count, order + start, time, record, newest[s], seen + start);
        const int64_t moves = insert(count, order + start, seen + start, time, left);
        if (moves < 0) return NOT_NEARLY_SORTED;
        left -= moves;
        start = first[s];
    }
    return 0;
}
