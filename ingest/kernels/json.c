/* Readings of many JSON values: flat objects of texts, plain numbers and literals, in ASCII. */
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#define KEYS_MAX 24
#define UNITS_MAX 16
#define USUAL 5 /* plant, point, time, value, unit: the first of the fields' names */
#define ALL 15 /* of plant, point, time and value */
#define TIME_AND_VALUE 12
#define UNKNOWN (-1)
#define NO_SEQ (-1)
#define WORD_SIZE_MAX 200
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
    text_t plant, point, unit, serial, product;
    int64_t time, mantissa, revision, seq;
    int decimals, seen, quality;
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

/* So many digits; -1: there are others. */
static int64_t digits(const uint8_t *p, int count) {
    int64_t number = 0;
    for (int i = 0; i < count; i++) {
        if (p[i] < '0' || p[i] > '9') return -1;
        number = number * 10 + (p[i] - '0');
    }
    return number;
}

/* Days since 1970-01-01 of a civil date; years begin in March, so that a leap day is their last. */
static int64_t days(int64_t year, int64_t month, int64_t day) {
    year -= month < 3;
    const int64_t era = year / 400, within = year % 400, from_march = (month + 9) % 12;
    return era * 146097 + within * 365 + within / 4 - within / 100 + (153 * from_march + 2) / 5 + day - 1 - 719468;
}

static int64_t month_days(int64_t year, int64_t month) {
    static const int of[12] = {31, 28, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31};
    const int leap = month == 2 && year % 4 == 0 && (year % 100 || year % 400 == 0);
    return of[month - 1] + leap;
}

/* A time of RFC 3339 in milliseconds, what is finer cut off; 0: it is none that is usual. */
static int read_time(text_t text, int64_t *time) {
    const uint8_t *p = text.at, *end = text.at + text.size;
    if (text.size < 20 || p[4] != '-' || p[7] != '-' || p[10] != 'T' || p[13] != ':' || p[16] != ':') return 0;
    const int64_t year = digits(p, 4), month = digits(p + 5, 2), day = digits(p + 8, 2);
    const int64_t hour = digits(p + 11, 2), minute = digits(p + 14, 2), second = digits(p + 17, 2);
    if (year < 1 || month < 1 || month > 12 || day < 1 || day > month_days(year, month)) return 0;
    if (hour < 0 || hour > 23 || minute < 0 || minute > 59 || second < 0 || second > 59) return 0;
    int64_t thousandths = 0, offset = 0;
    p += 19;
    if (*p == '.') {
        const uint8_t *point = p++;
        for (; p < end && *p >= '0' && *p <= '9'; p++)
            if (p - point <= 3) thousandths = thousandths * 10 + (*p - '0');
        if (p - point == 1) return 0;
        for (int64_t i = p - point; i <= 3; i++) thousandths *= 10;
    }
    if (end - p == 6 && (*p == '+' || *p == '-') && p[3] == ':') {
        const int64_t hours = digits(p + 1, 2), minutes = digits(p + 4, 2);
        if (hours < 0 || hours > 23 || minutes < 0 || minutes > 59) return 0;
        offset = (*p == '-' ? -1 : 1) * (hours * 60 + minutes);
    } else if (end - p != 1 || *p != 'Z') {
        return 0;
    }
    *time = ((days(year, month, day) * 24 + hour) * 60 + minute - offset) * 60000 + second * 1000 + thousandths;
    return 1;
}

static const uint8_t *past_null(const uint8_t *p, const uint8_t *end) {
    return end - p >= 4 && memcmp(p, "null", 4) == 0 ? p + 4 : NULL;
}

static const uint8_t *past_time(const uint8_t *p, const uint8_t *end, reading_t *reading) {
    int none = 0;
    text_t text;
    if (p >= end || *p == '-') return NULL;
    if (*p == '"') {
        p = past_text(p, end, &text);
        return p != NULL && read_time(text, &reading->time) ? p : NULL;
    }
    p = past_number(p, end, &reading->time, &none);
    return none == 0 ? p : NULL;
}

static const uint8_t *past_value(const uint8_t *p, const uint8_t *end, reading_t *reading) {
    const int quoted = p < end && *p == '"';
    p = past_number(p + quoted, end, &reading->mantissa, &reading->decimals);
    if (p == NULL || !quoted) return p;
    return p < end && *p == '"' ? p + 1 : NULL;
}

/* A serial number or a product: short and printable, or none. */
static const uint8_t *past_word(const uint8_t *p, const uint8_t *end, text_t *word) {
    if (p < end && *p == 'n') return past_null(p, end);
    p = past_text(p, end, word);
    return p != NULL && word->size <= WORD_SIZE_MAX && !memchr(word->at, 0x7f, (size_t)word->size) ? p : NULL;
}

/* A whole number that is not negative, or none. */
static const uint8_t *past_whole(const uint8_t *p, const uint8_t *end, int64_t most, int64_t *number) {
    int decimals = 0;
    if (p >= end || *p == '-') return NULL;
    if (*p == 'n') return past_null(p, end);
    p = past_number(p, end, number, &decimals);
    return decimals == 0 && *number <= most ? p : NULL;
}

static const uint8_t *past_quality(const uint8_t *p, const uint8_t *end, int *quality) {
    static const char *const words[] = {"good", "bad", "estimated"}; /* from 1, as metering.readings has them */
    text_t text;
    if (p < end && *p == 'n') return past_null(p, end);
    p = past_text(p, end, &text);
    if (p == NULL) return NULL;
    for (int i = 0; i < 3; i++) {
        const text_t word = {(const uint8_t *)words[i], (int64_t)strlen(words[i])};
        if (same(word, text)) {
            *quality = i + 1;
            return p;
        }
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
    if (field == UNKNOWN) return past_any(p, end);
    reading->seen |= 1 << field;
    switch (field) {
    case 0: return past_text(p, end, &reading->plant);
    case 1: return past_text(p, end, &reading->point);
    case 2: return past_time(p, end, reading);
    case 3: return past_value(p, end, reading);
    case 4: return past_text(p, end, &reading->unit);
    case 5: return past_null(p, end); /* a start is for points that read intervals */
    case 6: return past_word(p, end, &reading->serial);
    case 7: return past_word(p, end, &reading->product);
    case 8: return past_whole(p, end, INT32_MAX, &reading->revision);
    case 9: return past_whole(p, end, INT64_MAX, &reading->seq);
    case 10: return past_quality(p, end, &reading->quality);
    default: return NULL;
    }
}

/* Whether a value is one plain reading with these of the first four fields, and no other of them. */
static int read_one(const uint8_t *p, const uint8_t *end, const fields_t *fields, memory_t *memory, int wanted,
                    reading_t *reading) {
    reading->seen = 0;
    reading->unit.size = reading->serial.size = reading->product.size = 0;
    reading->revision = reading->quality = 0;
    reading->seq = NO_SEQ;
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

/* Where texts are, start and end of each; how many. */
static int64_t told(const text_t *seen, int64_t count, const uint8_t *text, int64_t *cuts) {
    for (int64_t i = 0; i < count; i++) {
        cuts[2 * i] = seen[i].at - text;
        cuts[2 * i + 1] = seen[i].at - text + seen[i].size;
    }
    return count;
}

typedef struct { /* different words, in the order in which they are first seen */
    int64_t slots;
    int32_t *table;
    text_t *word;
    int32_t count;
} words_t;

/* The word's number; -1: none is given. There are slots enough for all. */
static int32_t number_of(words_t *words, text_t text) {
    if (text.size == 0) return -1;
    const text_t nothing = {text.at, 0};
    int64_t slot = slot_of(nothing, text, words->slots);
    for (; words->table[slot] >= 0; slot = (slot + 1) & (words->slots - 1))
        if (same(words->word[words->table[slot]], text)) return words->table[slot];
    words->word[words->count] = text;
    return words->table[slot] = words->count++;
}

/* n values, [starts, ends) in text; times and values may be texts, and all fields of a reading may be there but for a
   start. fields: cuts of the names of our fields, the usual five first. slots, table, names, cuts: as
   meterflow_json_table has them; no slots: values name neither plant nor point. Of each value: number in the table,
   time, mantissa, exponent, number of its unit, of its serial and its product among the words (-1: none), revision,
   seq (-1), quality; or bad, and the rest is nonsense. word_slots: a power of two, more than 2 n; word_table: all -1.
   units, words: where each of up to 16 and 2 n is first seen in the text, start and end. counts: of the units, and of
   the words. Returns 0, or -1 when there is no memory. */
int64_t meterflow_json_readings(int64_t n, const uint8_t *text, const int64_t *starts, const int64_t *ends,
                                int64_t fields_count, const uint8_t *field_names, const int64_t *field_cuts,
                                int64_t slots, const int32_t *table, const uint8_t *names, const int64_t *cuts,
                                int64_t *point, int64_t *time, int64_t *mantissa, int8_t *exponent, int32_t *unit,
                                int32_t *serial, int32_t *product, int32_t *revision, int64_t *seq, uint8_t *quality,
                                uint8_t *bad, int64_t word_slots, int32_t *word_table, int64_t *units,
                                int64_t *words, int64_t *counts) {
    const fields_t fields = {field_names, field_cuts, fields_count};
    memory_t memory;
    text_t seen[UNITS_MAX];
    words_t known = {word_slots, word_table, malloc((size_t)(2 * n + 1) * sizeof(text_t)), 0};
    counts[0] = counts[1] = 0;
    memory.count = 0;
    if (known.word == NULL) return -1;
    for (int64_t i = 0; i < n; i++) {
        reading_t reading;
        int64_t found = UNKNOWN;
        int32_t code = -1;
        if (read_one(text + starts[i], text + ends[i], &fields, &memory, slots ? ALL : TIME_AND_VALUE, &reading)) {
            found = slots ? find(&reading, slots, table, names, cuts) : 0;
            if (found >= 0) code = unit_of(reading.unit, seen, &counts[0]);
        }
        bad[i] = found < 0 || code == UNITS_MAX;
        point[i] = bad[i] ? 0 : found;
        time[i] = bad[i] ? 0 : reading.time;
        mantissa[i] = bad[i] ? 0 : reading.mantissa;
        exponent[i] = bad[i] ? 0 : (int8_t)-reading.decimals;
        unit[i] = bad[i] ? -1 : code;
        serial[i] = bad[i] ? -1 : number_of(&known, reading.serial);
        product[i] = bad[i] ? -1 : number_of(&known, reading.product);
        revision[i] = bad[i] ? 0 : (int32_t)reading.revision;
        seq[i] = bad[i] ? NO_SEQ : reading.seq;
        quality[i] = bad[i] ? 0 : (uint8_t)reading.quality;
    }
    told(seen, counts[0], text, units);
    counts[1] = told(known.word, known.count, text, words);
    free(known.word);
    return 0;
}
