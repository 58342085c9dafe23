/* The LZ4 frame format: blocks that may refer to what lies before them. */
#ifndef METERFLOW_LZ4_H
#define METERFLOW_LZ4_H
#include <stdint.h>
#include <string.h>

/* Where there is room for it, so many bytes are copied for fewer: what is too much is written over. */
#define LZ4_SOME 16

static inline uint32_t lz4_word(const uint8_t *in) {
    return (uint32_t)in[0] | (uint32_t)in[1] << 8 | (uint32_t)in[2] << 16 | (uint32_t)in[3] << 24;
}

/* A length that goes on in further bytes; -1 behind the end. */
static inline int64_t lz4_length(const uint8_t *in, int64_t n, int64_t *i, int64_t length) {
    if (length < 15) return length;
    for (;;) {
        if (*i >= n || length > (INT64_C(1) << 40)) return -1;
        const uint8_t more = in[(*i)++];
        length += more;
        if (more < 255) return length;
    }
}

/* Copies what lies `distance` before: of few bytes that are repeated twice as many each time. */
static inline void lz4_repeat(uint8_t *out, int64_t distance, int64_t length) {
    const uint8_t *from = out - distance;
    while (length > 0) {
        const int64_t some = distance < length ? distance : length;
        memcpy(out, from, (size_t)some);
        out += some;
        length -= some;
        distance += some;
    }
}

/* A block, behind `at` bytes that are there; where they end then, -1 if it is none. */
static inline int64_t lz4_block(const uint8_t *in, int64_t n, uint8_t *out, int64_t at, int64_t room) {
    int64_t i = 0;
    while (i < n) {
        const uint8_t token = in[i++];
        const int64_t literals = lz4_length(in, n, &i, token >> 4);
        if (literals < 0 || literals > n - i || literals > room - at) return -1;
        if (literals <= LZ4_SOME && n - i >= LZ4_SOME && room - at >= LZ4_SOME)
            memcpy(out + at, in + i, LZ4_SOME);
        else
            memcpy(out + at, in + i, (size_t)literals);
        at += literals;
        i += literals;
        if (i == n) return at;
        if (n - i < 2) return -1;
        const int64_t distance = in[i] | (int64_t)in[i + 1] << 8;
        i += 2;
        int64_t length = lz4_length(in, n, &i, token & 15);
        if (length < 0 || distance == 0 || distance > at) return -1;
        length += 4;
        if (length > room - at) return -1;
        if (length <= LZ4_SOME && distance >= 8 && room - at >= LZ4_SOME) {
            memcpy(out + at, out + at - distance, 8);
            memcpy(out + at + 8, out + at + 8 - distance, 8);
        } else {
            lz4_repeat(out + at, distance, length);
        }
        at += length;
    }
    return -1;
}

/* A whole frame; how many bytes came of it, -1 if it is none or more than there is room for. */
static inline int64_t lz4_frame(const uint8_t *in, int64_t n, uint8_t *out, int64_t room) {
    if (n < 7 || lz4_word(in) != 0x184D2204u || in[4] >> 6 != 1) return -1;
    const uint8_t flags = in[4];
    if (flags & 1) return -1;
    int64_t i = 7 + (flags & 8 ? 8 : 0), at = 0;
    while (n - i >= 4) {
        const uint32_t head = lz4_word(in + i);
        const int64_t size = head & 0x7fffffffu;
        i += 4;
        if (head == 0) return at;
        if (size > n - i) return -1;
        if (head >> 31) {
            if (size > room - at) return -1;
            memcpy(out + at, in + i, (size_t)size);
            at += size;
        } else {
            at = lz4_block(in + i, size, out, at, room);
            if (at < 0) return -1;
        }
        i += size + (flags & 16 ? 4 : 0);
    }
    return -1;
}
#endif
