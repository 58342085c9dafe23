/* Flatbuffers, in which Arrow says what a message holds. What lies outside of the bytes is `bad`, and reads as 0. */
#ifndef METERFLOW_FLAT_H
#define METERFLOW_FLAT_H
#include <stdint.h>
#include <string.h>

typedef struct {
    const uint8_t *data;
    int64_t size;
    int bad;
} Flat;

static inline int64_t flat_number(Flat *flat, int64_t at, int width) {
    uint64_t value = 0;
    if (at < 0 || at > flat->size - width) {
        flat->bad = 1;
        return 0;
    }
    for (int i = 0; i < width; i++) value |= (uint64_t)flat->data[at + i] << (8 * i);
    return width == 8 ? (int64_t)value : width == 4 ? (int64_t)(int32_t)value : (int64_t)value;
}

/* Where something begins that is referred to at `at`. */
static inline int64_t flat_follow(Flat *flat, int64_t at) {
    return at + (int64_t)(uint32_t)flat_number(flat, at, 4);
}

/* Where the field `slot` of a table is, 0 if it is not there. */
static inline int64_t flat_field(Flat *flat, int64_t table, int slot) {
    const int64_t directory = table - flat_number(flat, table, 4);
    if (4 + 2 * slot + 2 > flat_number(flat, directory, 2)) return 0;
    const int64_t offset = flat_number(flat, directory + 4 + 2 * slot, 2);
    return offset ? table + offset : 0;
}

static inline int64_t flat_value(Flat *flat, int64_t table, int slot, int width) {
    const int64_t at = flat_field(flat, table, slot);
    return at ? flat_number(flat, at, width) : 0;
}

/* A table, a vector or a text in a field; 0 if it is not there, and bad. */
static inline int64_t flat_child(Flat *flat, int64_t table, int slot) {
    const int64_t at = flat_field(flat, table, slot);
    if (!at) flat->bad = 1;
    return at ? flat_follow(flat, at) : 0;
}

static inline int flat_is(Flat *flat, int64_t text, const char *wanted) {
    const int64_t size = (int64_t)strlen(wanted);
    if (flat_number(flat, text, 4) != size || text + 4 > flat->size - size) return 0;
    return memcmp(flat->data + text + 4, wanted, (size_t)size) == 0;
}
#endif
