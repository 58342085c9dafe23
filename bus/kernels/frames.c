/* Records of readings (bus/frames.py), many at once: where their columns are, and these one after the other. What is
   not exactly as bus/frames.py writes it is left to Arrow, which says what is wrong with it. */
#include "flat.h"
#include "lz4.h"
#include <stdlib.h>

#define BARE_FORMAT "readings/1"
#define FORMAT "readings/2" /* with the readings' evidence behind the other columns, which is passed over */
#define COLUMNS 13
#define EVIDENCE 3
#define TEXTS 4
#define DIGEST_BYTES 32
#define NO_CODE (-1)

enum { SCHEMA = 1, DICTIONARY, BATCH };
enum { TYPE_INT = 2, TYPE_UTF8 = 5, TYPE_FIXED = 15 };

typedef struct {
    const char *name;
    int width; /* bytes; 0: a text */
    int is_signed;
} Column;

static const Column columns[COLUMNS] = {
    {"point", 0, 0},   {"time", 8, 1},    {"start", 8, 1},    {"mantissa", 8, 1}, {"exponent", 1, 1},
    {"unit", 0, 0},    {"serial", 0, 0},  {"product", 0, 0},  {"revision", 4, 1}, {"seq", 8, 1},
    {"quality", 1, 0}, {"flags", 1, 0},   {"received", 8, 1},
};
static const int texts[TEXTS] = {0, 5, 6, 7};
static const char *const evidence[EVIDENCE] = {"topic", "user", "digest"};

/* Bytes of all frames, from their beginning; size -1: none. */
typedef struct {
    int64_t at, size;
} Piece;

/* What is known of a frame: `rows` -1 where it is left to Arrow. Numbers of words and their bytes by text. */
typedef struct {
    int64_t rows, plant, plant_size;
    int64_t words[TEXTS], bytes[TEXTS], width[TEXTS], id[TEXTS];
    int64_t compressed, nulls[COLUMNS];
    Piece valid[COLUMNS], values[COLUMNS];
    int64_t words_compressed[TEXTS];
    Piece offsets[TEXTS], letters[TEXTS];
    int64_t evidence, evidence_id[EVIDENCE]; /* how many columns of it, and their numbers; -1 of one that was there */
} Frame;

typedef struct {
    Flat flat;
    int64_t table, header, kind;
    int64_t body, body_size, next;
} Message;

/* The message that begins at `at` of a frame; 0 at its end, -1 if it is none. */
static int read_message(const uint8_t *data, int64_t at, int64_t end, Message *message) {
    Flat whole = {data, end, 0};
    if (flat_number(&whole, at, 4) != -1 || whole.bad) return -1;
    const int64_t size = flat_number(&whole, at + 4, 4);
    if (whole.bad || size < 0 || size > end - at - 8) return -1;
    if (size == 0) return at + 8 == end ? 0 : -1;
    message->flat = (Flat){data + at + 8, size, 0};
    Flat *flat = &message->flat;
    message->table = flat_follow(flat, 0);
    message->kind = flat_value(flat, message->table, 1, 1);
    message->header = flat_child(flat, message->table, 2);
    message->body = at + 8 + size;
    message->body_size = flat_value(flat, message->table, 3, 8);
    if (flat->bad || message->body_size < 0 || message->body_size > end - message->body) return -1;
    message->next = message->body + message->body_size;
    return 1;
}

static int is_int(Flat *flat, int64_t table, int width, int is_signed) {
    return flat_value(flat, table, 0, 4) == 8 * width && flat_value(flat, table, 1, 1) == is_signed;
}

/* A field of the schema: whether it is what it should be; of a text its number and how wide its codes are. */
static int read_field(Flat *flat, int64_t field, int column, Frame *frame) {
    const Column *wanted = columns + column;
    if (!flat_is(flat, flat_child(flat, field, 0), wanted->name)) return 0;
    const int64_t type = flat_value(flat, field, 2, 1), coded = flat_field(flat, field, 4);
    if (wanted->width)
        return type == TYPE_INT && !coded && is_int(flat, flat_child(flat, field, 3), wanted->width, wanted->is_signed);
    if (type != TYPE_UTF8 || !coded) return 0;
    const int64_t encoding = flat_follow(flat, coded), index = flat_child(flat, encoding, 1);
    for (int text = 0; text < TEXTS; text++)
        if (texts[text] == column) {
            frame->id[text] = flat_value(flat, encoding, 0, 8);
            frame->width[text] = is_int(flat, index, 2, 1) ? 2 : is_int(flat, index, 4, 1) ? 4 : 0;
            return frame->width[text] > 0;
        }
    return 0;
}

/* The same of a column of evidence: its words, then, are of no concern. */
static int read_evidence(Flat *flat, int64_t field, int number, Frame *frame) {
    if (!flat_is(flat, flat_child(flat, field, 0), evidence[number])) return 0;
    const int64_t type = flat_value(flat, field, 2, 1), coded = flat_field(flat, field, 4);
    if (type != (number < EVIDENCE - 1 ? TYPE_UTF8 : TYPE_FIXED) || !coded) return 0;
    if (type == TYPE_FIXED && flat_value(flat, flat_child(flat, field, 3), 0, 4) != DIGEST_BYTES) return 0;
    const int64_t encoding = flat_follow(flat, coded), index = flat_child(flat, encoding, 1);
    frame->evidence_id[number] = flat_value(flat, encoding, 0, 8);
    return frame->evidence_id[number] >= 0 && (is_int(flat, index, 2, 1) || is_int(flat, index, 4, 1));
}

static int read_schema(const uint8_t *data, Message *message, Frame *frame) {
    Flat *flat = &message->flat;
    if (message->kind != SCHEMA || flat_value(flat, message->header, 0, 2)) return 0;
    const int64_t fields = flat_child(flat, message->header, 1), facts = flat_child(flat, message->header, 2);
    frame->evidence = flat_number(flat, fields, 4) - COLUMNS;
    if (frame->evidence != 0 && frame->evidence != EVIDENCE) return 0;
    for (int column = 0; column < COLUMNS; column++)
        if (!read_field(flat, flat_follow(flat, fields + 4 + 4 * column), column, frame)) return 0;
    for (int number = 0; number < frame->evidence; number++)
        if (!read_evidence(flat, flat_follow(flat, fields + 4 + 4 * (COLUMNS + number)), number, frame)) return 0;
    int format = 0, site = 0;
    frame->plant = -1;
    const int64_t count = flat_number(flat, facts, 4);
    for (int64_t i = 0; i < count && !flat->bad; i++) {
        const int64_t pair = flat_follow(flat, facts + 4 + 4 * i);
        const int64_t key = flat_child(flat, pair, 0), value = flat_child(flat, pair, 1);
        if (flat_is(flat, key, "meterflow.format"))
            format = flat_is(flat, value, frame->evidence ? FORMAT : BARE_FORMAT);
        if (flat_is(flat, key, "meterflow.site")) site = 1;
        if (flat_is(flat, key, "meterflow.plant")) {
            frame->plant = (flat->data - data) + value + 4;
            frame->plant_size = flat_number(flat, value, 4);
            if (frame->plant_size < 0 || value + 4 > flat->size - frame->plant_size) return 0;
        }
    }
    return format && frame->plant >= 0 && (site || !frame->evidence) && !flat->bad;
}

/* A record batch's way of compression (1: LZ4 by buffer), -1 of another. */
static int64_t compression(Flat *flat, int64_t batch) {
    const int64_t at = flat_field(flat, batch, 3);
    if (!at) return 0;
    const int64_t table = flat_follow(flat, at);
    return flat_value(flat, table, 0, 1) || flat_value(flat, table, 1, 1) ? -1 : 1;
}

static Piece buffer(Message *message, int64_t buffers, int number) {
    Flat *flat = &message->flat;
    const int64_t at = flat_number(flat, buffers + 4 + 16 * number, 8);
    const int64_t size = flat_number(flat, buffers + 12 + 16 * number, 8);
    if (at < 0 || size < 0 || at > message->body_size || size > message->body_size - at) flat->bad = 1;
    return (Piece){message->body + at, size};
}

/* How many bytes a piece holds; -1 if that is not known. */
static int64_t length_of(const uint8_t *data, Piece piece, int64_t compressed) {
    if (!compressed || piece.size == 0) return piece.size;
    Flat flat = {data + piece.at, piece.size, 0};
    const int64_t length = flat_number(&flat, 0, 8);
    if (flat.bad || length < -1) return -1;
    return length == -1 ? piece.size - 8 : length;
}

static int read_dictionary(const uint8_t *data, Message *message, Frame *frame) {
    Flat *flat = &message->flat;
    const int64_t id = flat_value(flat, message->header, 0, 8), batch = flat_child(flat, message->header, 1);
    const int64_t nodes = flat_child(flat, batch, 1), buffers = flat_child(flat, batch, 2);
    if (flat_value(flat, message->header, 2, 1) || flat_number(flat, nodes, 4) != 1) return 0;
    if (flat_number(flat, buffers, 4) != 3 || flat_number(flat, nodes + 12, 8)) return 0;
    for (int text = 0; text < TEXTS; text++) {
        if (frame->id[text] != id) continue;
        if (frame->words[text] >= 0) return 0;
        frame->words[text] = flat_value(flat, batch, 0, 8);
        frame->words_compressed[text] = compression(flat, batch);
        if (frame->words[text] < 0 || frame->words[text] > INT32_MAX || frame->words_compressed[text] < 0) return 0;
        frame->offsets[text] = buffer(message, buffers, 1);
        frame->letters[text] = buffer(message, buffers, 2);
        if (flat->bad) return 0;
        frame->bytes[text] = length_of(data, frame->letters[text], frame->words_compressed[text]);
        return frame->bytes[text] >= 0 && frame->bytes[text] <= INT32_MAX;
    }
    return 0;
}

/* Words of evidence: whose they are. */
static int pass_dictionary(Message *message, Frame *frame) {
    const int64_t id = flat_value(&message->flat, message->header, 0, 8);
    for (int number = 0; number < frame->evidence; number++)
        if (id >= 0 && frame->evidence_id[number] == id) {
            frame->evidence_id[number] = -1;
            return 1;
        }
    return 0;
}

static int read_batch(Message *message, Frame *frame) {
    Flat *flat = &message->flat;
    const int64_t nodes = flat_child(flat, message->header, 1), buffers = flat_child(flat, message->header, 2);
    const int64_t count = COLUMNS + frame->evidence;
    if (flat_number(flat, nodes, 4) != count || flat_number(flat, buffers, 4) != 2 * count) return 0;
    frame->compressed = compression(flat, message->header);
    const int64_t rows = flat_value(flat, message->header, 0, 8);
    if (frame->compressed < 0 || rows < 0 || rows > INT32_MAX) return 0;
    for (int column = 0; column < COLUMNS; column++) {
        frame->nulls[column] = flat_number(flat, nodes + 12 + 16 * column, 8);
        if (flat_number(flat, nodes + 4 + 16 * column, 8) != rows) return 0;
        if (columns[column].width && frame->nulls[column]) return 0;
        frame->valid[column] = buffer(message, buffers, 2 * column);
        frame->values[column] = buffer(message, buffers, 2 * column + 1);
    }
    frame->rows = rows;
    return 1;
}

static int read_frame(const uint8_t *data, int64_t at, int64_t end, Frame *frame) {
    Message message;
    memset(frame, 0, sizeof *frame);
    for (int text = 0; text < TEXTS; text++) frame->words[text] = -1;
    if (read_message(data, at, end, &message) <= 0 || !read_schema(data, &message, frame)) return 0;
    for (int text = 0; text < TEXTS; text++) {
        if (read_message(data, message.next, end, &message) <= 0 || message.kind != DICTIONARY) return 0;
        if (!read_dictionary(data, &message, frame) || message.flat.bad) return 0;
    }
    for (int number = 0; number < frame->evidence; number++) {
        if (read_message(data, message.next, end, &message) <= 0 || message.kind != DICTIONARY) return 0;
        if (!pass_dictionary(&message, frame) || message.flat.bad) return 0;
    }
    if (read_message(data, message.next, end, &message) <= 0 || message.kind != BATCH) return 0;
    if (!read_batch(&message, frame) || message.flat.bad) return 0;
    return read_message(data, message.next, end, &message) == 0;
}

/* Looks at n frames, which lie one after the other, without their checksums from at[0, i] to at[1, i]; facts: 64-bit
   numbers, `size` of them a frame. sums: by frame its rows, where its plant's name is and how long it is, and of its
   texts the words and then their bytes. Returns how many frames are as they should be, up to the first that is not. */
int64_t meterflow_look(int64_t n, const uint8_t *data, const int64_t *at, int64_t size, int64_t *facts, int64_t *sums) {
    if (size * 8 < (int64_t)sizeof(Frame)) return -1;
    for (int64_t i = 0; i < n; i++) {
        Frame *frame = (Frame *)(facts + i * size);
        if (!read_frame(data, at[i], at[n + i], frame)) return i;
        int64_t *sum = sums + 11 * i;
        sum[0] = frame->rows;
        sum[1] = frame->plant;
        sum[2] = frame->plant_size;
        for (int text = 0; text < TEXTS; text++) {
            sum[3 + text] = frame->words[text];
            sum[7 + text] = frame->bytes[text];
        }
    }
    return n;
}

/* The first `wanted` bytes of a piece, which may be longer; 0 if they are not there. */
static int unpack(const uint8_t *data, Piece piece, int64_t compressed, int64_t wanted, void *out) {
    const int64_t length = length_of(data, piece, compressed);
    if (length < wanted) return 0;
    if (wanted == 0) return 1;
    const uint8_t *from = data + piece.at + (compressed ? 8 : 0);
    if (!compressed || piece.size - 8 == length) {
        Flat flat = {data + piece.at, piece.size, 0};
        if (!compressed || flat_number(&flat, 0, 8) == -1) {
            memcpy(out, from, (size_t)wanted);
            return 1;
        }
    }
    if (length == wanted) return lz4_frame(from, piece.size - 8, out, wanted) == wanted;
    if (length > 8 * wanted + 4096) return 0;
    uint8_t *scratch = malloc((size_t)length);
    const int right = scratch && lz4_frame(from, piece.size - 8, scratch, length) == length;
    if (right) memcpy(out, scratch, (size_t)wanted);
    free(scratch);
    return right;
}

/* Words of a text, behind those that are there: where each ends, and the letters. */
static int read_words(const uint8_t *data, const Frame *frame, int text, int32_t *ends, uint8_t *letters,
                      int64_t first) {
    const int64_t n = frame->words[text], compressed = frame->words_compressed[text];
    if (n == 0) return 1;
    int32_t *offsets = malloc((size_t)(n + 1) * sizeof *offsets);
    int right = offsets && unpack(data, frame->offsets[text], compressed, 4 * (n + 1), offsets) && offsets[0] == 0;
    for (int64_t i = 0; right && i < n; i++) {
        right = offsets[i + 1] >= offsets[i];
        ends[i] = (int32_t)(first + offsets[i + 1]);
    }
    right = right && offsets[n] == frame->bytes[text] &&
            unpack(data, frame->letters[text], compressed, frame->bytes[text], letters + first);
    free(offsets);
    return right;
}

/* Codes of a text as numbers of all words, of which those of this frame begin at `first`. */
static int read_codes(const uint8_t *data, const Frame *frame, int text, int64_t first, int32_t *out) {
    const int64_t n = frame->rows, column = texts[text], width = frame->width[text], words = frame->words[text];
    const int64_t nulls = frame->nulls[column];
    if (nulls == n) {
        for (int64_t i = 0; i < n; i++) out[i] = NO_CODE;
        return 1;
    }
    uint8_t *valid = malloc((size_t)(n * width + n / 8 + 8));
    uint8_t *codes = valid + n / 8 + 8 - (n / 8) % 4;
    int right = valid && unpack(data, frame->values[column], frame->compressed, n * width, codes);
    if (right && nulls) right = unpack(data, frame->valid[column], frame->compressed, (n + 7) / 8, valid);
    for (int64_t i = 0; right && i < n; i++) {
        int16_t narrow;
        int32_t code;
        memcpy(&narrow, codes + 2 * i, 2);
        if (width == 4) memcpy(&code, codes + 4 * i, 4);
        else code = narrow;
        const int there = !nulls || valid[i / 8] >> (i % 8) & 1;
        if (there && (code < 0 || code >= words)) right = 0;
        out[i] = there ? (int32_t)(first + code) : NO_CODE;
    }
    free(valid);
    return right;
}

/* Columns of n frames, one after the other: numbers, codes of four texts (`room` each) and their words, of which
   those of frame i begin at word[text, i] and their letters at letter[text, i], in room for `words` and `bytes` of
   each text. Returns how many frames were right. */
int64_t meterflow_read(int64_t n, const uint8_t *data, int64_t size, const int64_t *facts, int64_t room,
                       int64_t *time, int64_t *start, int64_t *mantissa, int8_t *exponent, int32_t *revision,
                       uint8_t *quality, uint8_t *flags, int32_t *codes, const int64_t *word, const int64_t *letter,
                       int64_t words, int32_t *ends, int64_t bytes, uint8_t *letters) {
    static const int wanted[7] = {1, 2, 3, 4, 8, 10, 11};
    uint8_t *out[7] = {(uint8_t *)time, (uint8_t *)start, (uint8_t *)mantissa, (uint8_t *)exponent,
                       (uint8_t *)revision, quality, flags};
    int64_t row = 0;
    for (int64_t i = 0; i < n; i++) {
        const Frame *frame = (const Frame *)(facts + i * size);
        for (int k = 0; k < 7; k++) {
            const int64_t column = wanted[k], width = columns[column].width;
            if (!unpack(data, frame->values[column], frame->compressed, frame->rows * width, out[k] + row * width))
                return i;
        }
        for (int text = 0; text < TEXTS; text++) {
            const int64_t first = word[text * n + i];
            if (!read_words(data, frame, text, ends + text * words + first, letters + text * bytes,
                            letter[text * n + i]))
                return i;
            if (!read_codes(data, frame, text, first, codes + text * room + row)) return i;
        }
        row += frame->rows;
    }
    return n;
}
