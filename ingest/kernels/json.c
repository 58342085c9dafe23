/* Readings of many JSON values: flat objects of texts, plain numbers and literals, in ASCII. */
#include <stdint.h>
#include <string.h>

#define KEYS_MAX 24
#define UNITS_MAX 16
#define USUAL 5 /* plant, point, time, value, unit: the first of the fields' names */
#define ALL 15 /* of plant, point, time and value */
#define TIME_AND_VALUE 12
#define UNKNOWN (-1)
#define DIGITS_MAX 18
#define MAGNITUDE_MAX 15

typedef struct {
    const uint8_t *at;
    int64_t size;
} text_t;

typedef struct {
    text_t name;
    int field;
} key_t_;

typedef struct { /* the names of our fields */
    const uint8_t *text;
    const int64_t *cuts;
    int64_t count;
} fields_t;

typedef struct { /* keys of the values so far, each once: most values have the same in the same order */
    key_t_ key[KEYS_MAX];
    int count;
} memory_t;

typedef struct { /* what a value says */
    text_t plant, point, unit;
    int64_t time, mantissa;
    int decimals, seen;
} reading_t;

static int same(text_t one, text_t other) {
    return one.size == other.size && memcmp(one.at, other.at, (size_t)one.size) == 0;
}

static const uint8_t *past_space(const uint8_t *p, const uint8_t *end) {
    while (p < end && (*p == ' ' || *p == '\n' || *p == '\t' || *p == '\r')) p++;
    return p;
}

/* Behind a text's closing quote; NULL: it is none, or has escapes or anything but printable ASCII. */
static const uint8_t *past_text(const uint8_t *p, const uint8_t *end, text_t *text) {
    if (p >= end || *p != '"') return NULL;
    text->at = ++p;
    while (p < end && *p != '"') {
        if (*p < 0x20 || *p >= 0x80 || *p == '\\') return NULL;
        p++;
    }
    if (p >= end) return NULL;
    text->size = p - text->at;
    return p + 1;
}

/* Behind a plain decimal number; NULL: it is none, has an exponent, or too many digits. */
static const uint8_t *past_number(const uint8_t *p, const uint8_t *end, int64_t *mantissa, int *decimals) {
    int64_t digits = 0;
    const int negative = p < end && *p == '-';
    p += negative;
    const uint8_t *first = p;
    for (; p < end && *p >= '0' && *p <= '9' && p - first < DIGITS_MAX; p++) digits = digits * 10 + (*p - '0');
    const int64_t whole = p - first;
    if (whole < 1 || whole > MAGNITUDE_MAX || (*first == '0' && whole > 1)) return NULL;
    *decimals = 0;
    if (p < end && *p == '.') {
        const uint8_t *point = p++;
        for (; p < end && *p >= '0' && *p <= '9' && p - point + whole <= DIGITS_MAX; p++)
            digits = digits * 10 + (*p - '0');
        *decimals = (int)(p - point - 1);
        if (*decimals < 1) return NULL;
    }
    *mantissa = negative ? -digits : digits;
    return p; /* what follows must end a value: a further digit or an exponent does not */
}

static const uint8_t *past_literal(const uint8_t *p, const uint8_t *end) {
    static const char *const literals[] = {"true", "false", "null"};
    for (int i = 0; i < 3; i++) {
        const int64_t size = (int64_t)strlen(literals[i]);
        if (end - p >= size && memcmp(p, literals[i], (size_t)size) == 0) return p + size;
    }
    return NULL;
}

/* A value of a field that means nothing here. */
static const uint8_t *past_any(const uint8_t *p, const uint8_t *end) {
    text_t text;
    int64_t number;
    int decimals;
    if (p >= end) return NULL;
    if (*p == '"') return past_text(p, end, &text);
    if (*p == '-' || (*p >= '0' && *p <= '9')) return past_number(p, end, &number, &decimals);
    return past_literal(p, end);
}

static int field_of(const fields_t *fields, text_t name) {
    for (int64_t i = 0; i < fields->count; i++) {
        const text_t one = {fields->text + fields->cuts[i], fields->cuts[i + 1] - fields->cuts[i]};
        if (same(one, name)) return (int)i;
    }
    return UNKNOWN;
}

/* The number-th key of a value, remembered; NULL: it is none, is given twice, or there are too many. */
static const uint8_t *past_key(const uint8_t *p, const uint8_t *end, int number, const fields_t *fields,
                               memory_t *memory, int *field) {
    if (number >= KEYS_MAX) return NULL;
    key_t_ *key = &memory->key[number];
    if (number < memory->count && end - p > key->name.size + 1 && *p == '"' && p[key->name.size + 1] == '"' &&
        memcmp(p + 1, key->name.at, (size_t)key->name.size) == 0) {
        *field = key->field;
        return p + key->name.size + 2;
    }
    text_t name;
    p = past_text(p, end, &name);
    if (p == NULL) return NULL;
    for (int i = 0; i < number; i++)
        if (same(memory->key[i].name, name)) return NULL;
    key->name = name;
    key->field = *field = field_of(fields, name);
    memory->count = number + 1;
    return p;
}

static const uint8_t *past_field(const uint8_t *p, const uint8_t *end, int field, reading_t *reading) {
    int none = 0;
    if (field == UNKNOWN) return past_any(p, end);
    if (field >= USUAL) return NULL;
    reading->seen |= 1 << field;
    switch (field) {
    case 0: return past_text(p, end, &reading->plant);
    case 1: return past_text(p, end, &reading->point);
    case 2:
        if (p >= end || *p == '-') return NULL;
        p = past_number(p, end, &reading->time, &none);
        return none == 0 ? p : NULL;
    case 3: return past_number(p, end, &reading->mantissa, &reading->decimals);
    default: return past_text(p, end, &reading->unit);
    }
}

/* Whether a value is one plain reading with these of the first four fields, and no other of them. */
static int read_one(const uint8_t *p, const uint8_t *end, const fields_t *fields, memory_t *memory, int wanted,
                    reading_t *reading) {
    reading->seen = 0;
    reading->unit.size = 0;
    p = past_space(p, end);
    if (p >= end || *p != '{') return 0;
    for (int number = 0;; number++) {
        int field;
        p = past_key(past_space(p + 1, end), end, number, fields, memory, &field);
        if (p == NULL) return 0;
        p = past_space(p, end);
        if (p >= end || *p != ':') return 0;
        p = past_field(past_space(p + 1, end), end, field, reading);
        if (p == NULL) return 0;
        p = past_space(p, end);
        if (p >= end || (*p != ',' && *p != '}')) return 0;
        if (*p == '}') break;
    }
    return past_space(p + 1, end) == end && (reading->seen & ALL) == wanted;
}

static uint64_t mixed(uint64_t hash, text_t text) {
    uint64_t word;
    const uint8_t *at = text.at;
    int64_t left = text.size;
    for (; left > 0; left -= 8, at += 8) {
        word = 0;
        memcpy(&word, at, left < 8 ? (size_t)left : 8);
        hash = (hash ^ word) * 0x9E3779B97F4A7C15u;
        hash ^= hash >> 29;
    }
    return (hash ^ (uint64_t)text.size) * 0xC2B2AE3D27D4EB4Fu;
}

static int64_t slot_of(text_t plant, text_t point, int64_t slots) {
    const uint64_t hash = mixed(mixed(1, plant), point);
    return (int64_t)((hash ^ (hash >> 32)) & (uint64_t)(slots - 1));
}

static text_t known(const uint8_t *names, const int64_t *cuts, int64_t i) {
    const text_t text = {names + cuts[i], cuts[i + 1] - cuts[i]};
    return text;
}

/* Fills table (slots: a power of two, more than count; all -1) with the numbers of points.
   cuts: where in names plant and point begin, one after the other, and the last one's end. */
int64_t meterflow_json_table(int64_t count, int64_t slots, const uint8_t *names, const int64_t *cuts,
                             int32_t *table) {
    for (int64_t i = 0; i < count; i++) {
        int64_t slot = slot_of(known(names, cuts, 2 * i), known(names, cuts, 2 * i + 1), slots);
        while (table[slot] >= 0) slot = (slot + 1) & (slots - 1);
        table[slot] = (int32_t)i;
    }
    return 0;
}

static int64_t find(const reading_t *reading, int64_t slots, const int32_t *table, const uint8_t *names,
                    const int64_t *cuts) {
    int64_t slot = slot_of(reading->plant, reading->point, slots);
    for (; table[slot] >= 0; slot = (slot + 1) & (slots - 1)) {
        const int64_t i = table[slot];
        if (same(known(names, cuts, 2 * i), reading->plant) && same(known(names, cuts, 2 * i + 1), reading->point))
            return i;
    }
    return UNKNOWN;
}

/* The unit's number among those seen; -1: none is given; UNITS_MAX: it is one too many. */
static int32_t unit_of(text_t unit, text_t *units, int64_t *count) {
    if (unit.size == 0) return -1;
    for (int32_t i = 0; i < *count; i++)
        if (same(units[i], unit)) return i;
    if (*count == UNITS_MAX) return UNITS_MAX;
    units[*count] = unit;
    return (int32_t)(*count)++;
}

/* Where units are, start and end of each; how many. */
static int64_t told(const text_t *seen, int64_t count, const uint8_t *text, int64_t *units) {
    for (int64_t i = 0; i < count; i++) {
        units[2 * i] = seen[i].at - text;
        units[2 * i + 1] = seen[i].at - text + seen[i].size;
    }
    return count;
}

/* n values, [starts, ends) in text. fields: cuts of the names of our fields, the usual five first; slots,
   table, names, cuts: as meterflow_json_table has them. Of each value: number in the table, time,
   mantissa, exponent, unit; or bad, and the rest is nonsense. units: where each unit is first seen in the text,
   start and end. Returns how many units there are. */
int64_t meterflow_json_readings(int64_t n, const uint8_t *text, const int64_t *starts, const int64_t *ends,
                                int64_t fields_count, const uint8_t *field_names, const int64_t *field_cuts,
                                int64_t slots, const int32_t *table, const uint8_t *names, const int64_t *cuts,
                                int64_t *point, int64_t *time, int64_t *mantissa, int8_t *exponent,
                                int32_t *unit, uint8_t *bad, int64_t *units) {
    const fields_t fields = {field_names, field_cuts, fields_count};
    memory_t memory;
    text_t seen[UNITS_MAX];
    int64_t seen_count = 0;
    memory.count = 0;
    for (int64_t i = 0; i < n; i++) {
        reading_t reading;
        int64_t found = UNKNOWN;
        int32_t code = -1;
        if (read_one(text + starts[i], text + ends[i], &fields, &memory, ALL, &reading)) {
            found = find(&reading, slots, table, names, cuts);
            if (found >= 0) code = unit_of(reading.unit, seen, &seen_count);
        }
        bad[i] = found < 0 || code == UNITS_MAX;
        point[i] = bad[i] ? 0 : found;
        time[i] = bad[i] ? 0 : reading.time;
        mantissa[i] = bad[i] ? 0 : reading.mantissa;
        exponent[i] = bad[i] ? 0 : (int8_t)-reading.decimals;
        unit[i] = bad[i] ? -1 : code;
    }
    return told(seen, seen_count, text, units);
}

/* The same of values that name neither plant nor point. */
int64_t meterflow_json_values(int64_t n, const uint8_t *text, const int64_t *starts, const int64_t *ends,
                              int64_t fields_count, const uint8_t *field_names, const int64_t *field_cuts,
                              int64_t *time, int64_t *mantissa, int8_t *exponent, int32_t *unit, uint8_t *bad,
                              int64_t *units) {
    const fields_t fields = {field_names, field_cuts, fields_count};
    memory_t memory;
    text_t seen[UNITS_MAX];
    int64_t seen_count = 0;
    memory.count = 0;
    for (int64_t i = 0; i < n; i++) {
        reading_t reading;
        int32_t code = UNITS_MAX;
        if (read_one(text + starts[i], text + ends[i], &fields, &memory, TIME_AND_VALUE, &reading))
            code = unit_of(reading.unit, seen, &seen_count);
        bad[i] = code == UNITS_MAX;
        time[i] = bad[i] ? 0 : reading.time;
        mantissa[i] = bad[i] ? 0 : reading.mantissa;
        exponent[i] = bad[i] ? 0 : (int8_t)-reading.decimals;
        unit[i] = bad[i] ? -1 : code;
    }
    return told(seen, seen_count, text, units);
}
