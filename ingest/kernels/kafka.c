/* Values of the records in Kafka's batches (message format 2). */
#include <stddef.h>
#include <stdint.h>

/* A zigzag number of up to 64 bits; NULL: it does not end. */
static const uint8_t *past_varint(const uint8_t *p, const uint8_t *end, int64_t *number) {
    uint64_t bits = 0;
    for (int shift = 0; p < end && shift < 64; shift += 7, p++) {
        bits |= (uint64_t)(*p & 0x7F) << shift;
        if (*p < 0x80) {
            *number = (int64_t)(bits >> 1) ^ -(int64_t)(bits & 1);
            return p + 1;
        }
    }
    return NULL;
}

/* Behind `size` bytes, where -1 stands for nothing at all; NULL: there are not so many. */
static const uint8_t *past_bytes(const uint8_t *p, const uint8_t *end, int64_t size) {
    if (size < -1 || size > end - p) return NULL;
    return size < 0 ? p : p + size;
}

/* A record at p: its offset in the batch and where its value is. Returns where the next one begins; NULL:
   it is damaged. A null value is an empty one. */
static const uint8_t *past_record(const uint8_t *p, const uint8_t *end, int64_t *offset, const uint8_t **start,
                                  const uint8_t **stop) {
    int64_t size, number;
    p = past_varint(p, end, &size);
    if (p == NULL || size < 1 || size > end - p) return NULL;
    end = p + size;
    p = past_varint(p + 1, end, &number); /* behind the attributes: the time */
    if (p == NULL || (p = past_varint(p, end, offset)) == NULL) return NULL;
    if ((p = past_varint(p, end, &number)) == NULL || (p = past_bytes(p, end, number)) == NULL) return NULL;
    if ((p = past_varint(p, end, &number)) == NULL) return NULL;
    *start = p;
    if ((p = past_bytes(p, end, number)) == NULL) return NULL;
    *stop = p;
    return end;
}

/* The records of batches, each batch's [begins, ends) in content with `counts` of them; those before the
   offset `skips` in their batch are left out. Returns how many there are, or -1 - b: batch b is damaged. */
int64_t meterflow_kafka_values(int64_t batches, const int64_t *begins, const int64_t *ends,
                               const int64_t *counts, const int64_t *skips, const uint8_t *content,
                               int64_t *starts, int64_t *stops) {
    int64_t found = 0;
    for (int64_t b = 0; b < batches; b++) {
        const uint8_t *p = content + begins[b], *start, *stop;
        for (int64_t i = 0; i < counts[b]; i++) {
            int64_t offset;
            p = past_record(p, content + ends[b], &offset, &start, &stop);
            if (p == NULL) return -1 - b;
            if (offset < skips[b]) continue;
            starts[found] = start - content;
            stops[found++] = stop - content;
        }
        if (p != content + ends[b]) return -1 - b;
    }
    return found;
}
