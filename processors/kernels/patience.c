/* Up to where patience is used up, record by record of a batch, and what it may look back to afterwards. */
#include <stdint.h>

#define NEVER (-(INT64_C(1) << 62))

static int64_t second_of(int64_t ms) {
    const int64_t second = ms / 1000;
    return second - (second * 1000 > ms);
}

/* A plant's way, in three steps: it is joined from what is known of it and from the batch, patience looks at it, and
   it is made thin. `count` times with the newest time of the plant by then, of the last second one each. */
static int64_t join(int64_t count, int64_t records, const int64_t *log_time, const int64_t *newest, int64_t *spoke,
                    int64_t *times, int64_t *horizon, int64_t *spoken) {
    for (int64_t r = 0; r < records; r++) {
        if (newest[r] != NEVER) {
            times[count] = *spoke = log_time[r];
            horizon[count] = count && horizon[count - 1] > newest[r] ? horizon[count - 1] : newest[r];
            count++;
        }
        spoken[r] = *spoke;
    }
    return count;
}

static void wait(int64_t records, const int64_t *log_time, const int64_t *spoken, int64_t count,
                 const int64_t *times, const int64_t *horizon, int64_t wait_ms, int64_t waited, int64_t *patience) {
    int64_t at = 0;
    patience[0] = waited;
    for (int64_t r = 0; r < records; r++) {
        const int64_t limit = log_time[r] - wait_ms, second = second_of(limit);
        while (at < count && second_of(times[at]) < second) at++;
        const int64_t then = at ? horizon[at - 1] : NEVER;
        int64_t now = NEVER;
        if (spoken[r] != NEVER) now = spoken[r] <= limit || limit < then ? limit : then;
        if (now > waited) waited = now;
        patience[r + 1] = waited;
    }
}

static int64_t thin(int64_t count, const int64_t *times, const int64_t *horizon, int64_t from_second,
                    int64_t *out_times, int64_t *out_horizon) {
    int64_t kept = 0;
    for (int64_t i = 0; i < count; i++) {
        const int64_t second = second_of(times[i]);
        if (i + 1 < count && second_of(times[i + 1]) == second) continue;
        if (second < from_second) kept = 0;
        out_times[kept] = times[i];
        out_horizon[kept++] = horizon[i];
    }
    return kept;
}

/* known: of each plant, where its times and horizons begin, and where the last one's end. newest: of each plant (row)
   and record its newest time, or NEVER. Groups are by plant: wait_ms and waited of each. patience: a row for each
   group, before the first record and behind each. spoke, and the kept ones of each plant, are brought up to date;
   scratch: room for the way of one plant, twice, and for the records. */
int64_t meterflow_patience(int64_t plants, int64_t records, int64_t groups, const int64_t *known,
                           const int64_t *times, const int64_t *horizon, const int64_t *log_time,
                           const int64_t *newest, const int64_t *plant_of_group, const int64_t *wait_ms,
                           const int64_t *waited, int64_t *spoke, int64_t *patience, int64_t *kept,
                           int64_t *kept_times, int64_t *kept_horizon, int64_t room, int64_t *scratch) {
    int64_t group = 0, total = 0;
    int64_t *way = scratch, *far = scratch + room, *spoken = scratch + 2 * room;
    for (int64_t p = 0; p < plants; p++) {
        int64_t count = 0, longest = 0;
        for (int64_t i = known[p]; i < known[p + 1]; i++, count++) {
            way[count] = times[i];
            far[count] = horizon[i];
        }
        count = join(count, records, log_time, newest + p * records, spoke + p, way, far, spoken);
        for (; group < groups && plant_of_group[group] == p; group++) {
            wait(records, log_time, spoken, count, way, far, wait_ms[group], waited[group],
                 patience + group * (records + 1));
            if (wait_ms[group] > longest) longest = wait_ms[group];
        }
        kept[p] = total;
        total += thin(count, way, far, second_of(log_time[records - 1] - longest), kept_times + total,
                      kept_horizon + total);
    }
    kept[plants] = total;
    return total;
}
