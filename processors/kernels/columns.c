/* Readings as the operators take them, where there is nothing to refuse and no value to round. */
#include <stdint.h>

#define TAKEN 0
#define NOT_PLAIN (-1)
#define NO_FACTOR (-2)
#define BAD 2
#define ESTIMATED_READING 3
#define FLAG_ROUNDED 1
#define ROUNDED 1
#define ESTIMATED 4

/* n readings of registers of points with one installation, serial numbers and products unnamed. By series: first
   (the point's series), from_ms, to_ms, value_min, value_max (the first that is too large), kind. factors: row per
   unit (code + 1) and kind, column per exponent + 128: what a mantissa is multiplied by, 0 where that is not known
   yet, -1 where it is no whole number. By point: fast, 1 where it is such a point. state[0]: the row where it
   stopped; state[1]: its place in factors. */
int64_t meterflow_columns(int64_t n, int64_t kinds, const int64_t *point, const int64_t *time,
                          const int64_t *mantissa, const int8_t *exponent, const int64_t *unit,
                          const int32_t *revision, const uint8_t *quality, const uint8_t *flags,
                          const uint8_t *fast, const int64_t *first, const int64_t *from_ms, const int64_t *to_ms,
                          const int64_t *value_min, const int64_t *value_max, const int64_t *kind,
                          const int64_t *factors, int64_t *out_series, int64_t *out_value,
                          int64_t *out_revision, uint8_t *out_flags, int64_t *state) {
    for (int64_t i = 0; i < n; i++) {
        if (point[i] < 0 || !fast[point[i]] || quality[i] == BAD) return NOT_PLAIN;
        const int64_t s = first[point[i]];
        if (time[i] < from_ms[s] || time[i] > to_ms[s]) return NOT_PLAIN;
        const int64_t place = ((unit[i] + 1) * kinds + kind[s]) * 256 + exponent[i] + 128;
        const int64_t factor = factors[place];
        if (factor <= 0) {
            state[0] = i;
            state[1] = place;
            return factor == 0 ? NO_FACTOR : NOT_PLAIN;
        }
        const __int128 value = (__int128)mantissa[i] * factor;
        if (value < value_min[s] || value >= value_max[s]) return NOT_PLAIN;
        out_series[i] = s;
        out_value[i] = (int64_t)value;
        out_revision[i] = revision[i];
        out_flags[i] = (uint8_t)((flags[i] & FLAG_ROUNDED ? ROUNDED : 0) |
                                 (quality[i] == ESTIMATED_READING ? ESTIMATED : 0));
    }
    return TAKEN;
}
