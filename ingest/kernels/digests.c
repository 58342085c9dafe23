/* SHA-256 (FIPS 180-4) of many messages. */
#include <stdint.h>
#include <string.h>

#define BLOCK 64
#define DIGEST 32
#define ROUNDS 64

static const uint32_t first_state[8] = {0x6a09e667, 0xbb67ae85, 0x3c6ef372, 0xa54ff53a,
                                        0x510e527f, 0x9b05688c, 0x1f83d9ab, 0x5be0cd19};
static const uint32_t constants[ROUNDS] = {
    0x428a2f98, 0x71374491, 0xb5c0fbcf, 0xe9b5dba5, 0x3956c25b, 0x59f111f1, 0x923f82a4, 0xab1c5ed5,
    0xd807aa98, 0x12835b01, 0x243185be, 0x550c7dc3, 0x72be5d74, 0x80deb1fe, 0x9bdc06a7, 0xc19bf174,
    0xe49b69c1, 0xefbe4786, 0x0fc19dc6, 0x240ca1cc, 0x2de92c6f, 0x4a7484aa, 0x5cb0a9dc, 0x76f988da,
    0x983e5152, 0xa831c66d, 0xb00327c8, 0xbf597fc7, 0xc6e00bf3, 0xd5a79147, 0x06ca6351, 0x14292967,
    0x27b70a85, 0x2e1b2138, 0x4d2c6dfc, 0x53380d13, 0x650a7354, 0x766a0abb, 0x81c2c92e, 0x92722c85,
    0xa2bfe8a1, 0xa81a664b, 0xc24b8b70, 0xc76c51a3, 0xd192e819, 0xd6990624, 0xf40e3585, 0x106aa070,
    0x19a4c116, 0x1e376c08, 0x2748774c, 0x34b0bcb5, 0x391c0cb3, 0x4ed8aa4a, 0x5b9cca4f, 0x682e6ff3,
    0x748f82ee, 0x78a5636f, 0x84c87814, 0x8cc70208, 0x90befffa, 0xa4506ceb, 0xbef9a3f7, 0xc67178f2,
};

/* Takes some blocks into the state. */
typedef void (*Blocks)(uint32_t *state, const uint8_t *data, int64_t blocks);

static inline uint32_t turned(uint32_t x, int by) { return x >> by | x << (32 - by); }

static inline uint32_t read_word(const uint8_t *at) {
    return (uint32_t)at[0] << 24 | (uint32_t)at[1] << 16 | (uint32_t)at[2] << 8 | at[3];
}

static inline void write_word(uint8_t *at, uint32_t word) {
    for (int i = 0; i < 4; i++) at[i] = (uint8_t)(word >> (24 - 8 * i));
}

static void plain_blocks(uint32_t *state, const uint8_t *data, int64_t blocks) {
    for (; blocks > 0; blocks--, data += BLOCK) {
        uint32_t w[ROUNDS];
        for (int t = 0; t < 16; t++) w[t] = read_word(data + 4 * t);
        for (int t = 16; t < ROUNDS; t++) {
            const uint32_t old = w[t - 15], new = w[t - 2];
            w[t] = w[t - 16] + w[t - 7] + (turned(old, 7) ^ turned(old, 18) ^ old >> 3) +
                   (turned(new, 17) ^ turned(new, 19) ^ new >> 10);
        }
        uint32_t a = state[0], b = state[1], c = state[2], d = state[3];
        uint32_t e = state[4], f = state[5], g = state[6], h = state[7];
        for (int t = 0; t < ROUNDS; t++) {
            const uint32_t one = h + (turned(e, 6) ^ turned(e, 11) ^ turned(e, 25)) + ((e & f) ^ (~e & g)) +
                                 constants[t] + w[t];
            const uint32_t two = (turned(a, 2) ^ turned(a, 13) ^ turned(a, 22)) + ((a & b) ^ (a & c) ^ (b & c));
            h = g, g = f, f = e, e = d + one;
            d = c, c = b, b = a, a = one + two;
        }
        state[0] += a, state[1] += b, state[2] += c, state[3] += d;
        state[4] += e, state[5] += f, state[6] += g, state[7] += h;
    }
}

#if defined(__x86_64__) && defined(__GNUC__)
#include <cpuid.h>
#include <immintrin.h>

/* By the processor's own instructions, four rounds at a time; these want the state as a b e f and c d g h. */
__attribute__((target("sha,sse4.1"))) static void fast_blocks(uint32_t *state, const uint8_t *data,
                                                              int64_t blocks) {
    const __m128i order = _mm_set_epi64x(0x0c0d0e0f08090a0b, 0x0405060700010203);
    const __m128i low = _mm_shuffle_epi32(_mm_loadu_si128((const __m128i *)state), 0xB1);
    const __m128i high = _mm_shuffle_epi32(_mm_loadu_si128((const __m128i *)(state + 4)), 0x1B);
    __m128i abef = _mm_alignr_epi8(low, high, 8), cdgh = _mm_blend_epi16(high, low, 0xF0);
    for (; blocks > 0; blocks--, data += BLOCK) {
        const __m128i abef_before = abef, cdgh_before = cdgh;
        __m128i w[4];
#pragma GCC unroll 16
        for (int i = 0; i < ROUNDS / 4; i++) {
            if (i < 4) {
                w[i] = _mm_shuffle_epi8(_mm_loadu_si128((const __m128i *)(data + 16 * i)), order);
            } else {
                const __m128i before = w[(i - 1) & 3];
                const __m128i middle = _mm_alignr_epi8(before, w[(i - 2) & 3], 4);
                const __m128i sum = _mm_add_epi32(_mm_sha256msg1_epu32(w[i & 3], w[(i - 3) & 3]), middle);
                w[i & 3] = _mm_sha256msg2_epu32(sum, before);
            }
            const __m128i k = _mm_add_epi32(w[i & 3], _mm_loadu_si128((const __m128i *)(constants + 4 * i)));
            cdgh = _mm_sha256rnds2_epu32(cdgh, abef, k);
            abef = _mm_sha256rnds2_epu32(abef, cdgh, _mm_shuffle_epi32(k, 0x0E));
        }
        abef = _mm_add_epi32(abef, abef_before);
        cdgh = _mm_add_epi32(cdgh, cdgh_before);
    }
    const __m128i feba = _mm_shuffle_epi32(abef, 0x1B), dchg = _mm_shuffle_epi32(cdgh, 0xB1);
    _mm_storeu_si128((__m128i *)state, _mm_blend_epi16(feba, dchg, 0xF0));
    _mm_storeu_si128((__m128i *)(state + 4), _mm_alignr_epi8(dchg, feba, 8));
}

/* Whether this processor has the instructions: SSSE3, SSE4.1 and those of SHA. */
static int has_them(void) {
    unsigned a, b, c, d;
    if (!__get_cpuid(1, &a, &b, &c, &d) || !(c >> 9 & 1) || !(c >> 19 & 1)) return 0;
    return __get_cpuid_count(7, 0, &a, &b, &c, &d) && (b >> 29 & 1);
}

/* Asked once: in a virtual machine the question takes longer than a hundred digests. */
static int is_fast(void) {
    static volatile int known = -1;
    if (known < 0) known = has_them();
    return known;
}

static Blocks way(int64_t plain) { return !plain && is_fast() ? fast_blocks : plain_blocks; }
#else
static Blocks way(int64_t plain) {
    (void)plain;
    return plain_blocks;
}
#endif

static void digest_of(Blocks take, const uint8_t *data, int64_t size, uint8_t *out) {
    uint32_t state[8];
    uint8_t last[2 * BLOCK] = {0};
    const int64_t whole = size / BLOCK, rest = size % BLOCK, blocks = rest + 9 > BLOCK ? 2 : 1;
    const uint64_t bits = (uint64_t)size << 3;
    memcpy(state, first_state, sizeof state);
    take(state, data, whole);
    memcpy(last, data + whole * BLOCK, (size_t)rest);
    last[rest] = 0x80;
    write_word(last + blocks * BLOCK - 8, (uint32_t)(bits >> 32));
    write_word(last + blocks * BLOCK - 4, (uint32_t)bits);
    take(state, last, blocks);
    for (int i = 0; i < 8; i++) write_word(out + 4 * i, state[i]);
}

/* The digests of n messages, [starts, ends) in text, one after the other; plain: without what only some processors
   have. */
int64_t meterflow_digests(int64_t n, const uint8_t *text, const int64_t *starts, const int64_t *ends, int64_t plain,
                          uint8_t *out) {
    const Blocks take = way(plain);
    for (int64_t i = 0; i < n; i++) digest_of(take, text + starts[i], ends[i] - starts[i], out + DIGEST * i);
    return n;
}
