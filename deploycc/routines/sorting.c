/* What needs an order: TopK and Unique, of every element type.
 *
 * Values become unsigned numbers of 64 bits with the same order, so that there is one algorithm for all types.
 * NaN is equal to itself and comes last, whichever way is sorted.
 */
#include <stdint.h>
#include <string.h>

int32_t dcc_top_k(const void *data, void *values, void *indices, void *heap_scratch, int64_t outer, int64_t extent,
                  int64_t inner, int64_t k, int64_t largest, int64_t kind, int64_t bytes);
int32_t dcc_unique(const void *data, const void *there, void *out, void *firsts, void *inverse, void *numbers,
                   void *count, void *keys_scratch, void *order_scratch, int64_t outer, int64_t extent, int64_t inner,
                   int64_t sorted, int64_t kind, int64_t bytes, int64_t most);

enum { UNSIGNED = 0, SIGNED = 1, FLOATING = 2 };

/* Numbers in the order of the values of `bits` bits; -0 is 0. */
static uint64_t key_of(uint64_t raw, int64_t kind, int64_t bits)
{
    const uint64_t sign = (uint64_t)1 << (bits - 1);
    const uint64_t all = sign | (sign - 1);
    if (kind == UNSIGNED) {
        return raw;
    }
    if (kind == SIGNED) {
        return raw ^ sign;
    }
    if ((raw & (sign - 1)) == 0) {
        return sign;
    }
    return (raw & sign) != 0 ? raw ^ all : raw | sign;
}

/* The exponent's bits of an infinity: any larger magnitude is no number. */
static uint64_t infinity_of(int64_t bits)
{
    return bits == 64 ? (uint64_t)0x7ff0000000000000 : bits == 32 ? (uint64_t)0x7f800000 : (uint64_t)0x7c00;
}

static uint64_t raw_of(const unsigned char *value, int64_t bytes)
{
    uint8_t one;
    uint16_t two;
    uint32_t four;
    uint64_t eight;
    switch (bytes) {
    case 1:
        memcpy(&one, value, 1);
        return one;
    case 2:
        memcpy(&two, value, 2);
        return two;
    case 4:
        memcpy(&four, value, 4);
        return four;
    default:
        memcpy(&eight, value, 8);
        return eight;
    }
}

/* Small numbers first.  `flipped` turns the order round, but not for NaN, which is the last. */
static uint64_t order_of(const unsigned char *value, int64_t kind, int64_t bytes, int64_t flipped)
{
    const uint64_t raw = raw_of(value, bytes), magnitude = ((uint64_t)1 << (8 * bytes - 1)) - 1;
    const uint64_t key = key_of(raw, kind, 8 * bytes);
    if (kind == FLOATING && (raw & magnitude) > infinity_of(8 * bytes)) {
        return UINT64_MAX;
    }
    return flipped != 0 ? UINT64_MAX - 1 - key + (kind == FLOATING ? 0 : 1) : key;
}

typedef struct entry {
    uint64_t key;
    int64_t index;
} entry;

static int before(entry a, entry b)
{
    return a.key < b.key || (a.key == b.key && a.index < b.index);
}

/* In a heap whose first entry is the one that comes last. */
static void sink(entry *heap, int64_t size, int64_t at)
{
    const entry moved = heap[at];
    for (;;) {
        int64_t child = 2 * at + 1;
        if (child >= size) {
            break;
        }
        if (child + 1 < size && before(heap[child], heap[child + 1])) {
            ++child;
        }
        if (!before(moved, heap[child])) {
            break;
        }
        heap[at] = heap[child];
        at = child;
    }
    heap[at] = moved;
}

/* `dcc_top_k`, inlined where kind and bytes are known so that reading a value is one load. */
static inline void first_k(const unsigned char *data, unsigned char *values, int64_t *indices, entry *heap,
                           int64_t outer, int64_t extent, int64_t inner, int64_t k, int64_t largest, int64_t kind,
                           int64_t bytes)
{
    for (int64_t row = 0; row < outer * inner; ++row) {
        const int64_t block = row / inner, lane = row % inner;
        const unsigned char *from = data + (block * extent * inner + lane) * bytes;
        unsigned char *to = values + (block * k * inner + lane) * bytes;
        int64_t *places = indices + block * k * inner + lane;
        for (int64_t i = 0; i < k; ++i) {
            heap[i].key = order_of(from + i * inner * bytes, kind, bytes, largest);
            heap[i].index = i;
        }
        for (int64_t i = k / 2 - 1; i >= 0; --i) {
            sink(heap, k, i);
        }
        for (int64_t i = k; i < extent; ++i) {
            const uint64_t key = order_of(from + i * inner * bytes, kind, bytes, largest);
            if (key < heap[0].key) {
                heap[0].key = key;
                heap[0].index = i;
                sink(heap, k, 0);
            }
        }
        for (int64_t size = k; size > 0; --size) {
            const entry last = heap[0];
            heap[0] = heap[size - 1];
            sink(heap, size - 1, 0);
            places[(size - 1) * inner] = last.index;
            memcpy(to + (size - 1) * inner * bytes, from + last.index * inner * bytes, (size_t)bytes);
        }
    }
}

/* The k first of [outer, extent, inner] along the middle, in order; of equal ones those that come first in the data.
 * The best k so far are a heap, so most elements cost one comparison.  `heap_scratch` has k entries. */
int32_t dcc_top_k(const void *data, void *values, void *indices, void *heap_scratch, int64_t outer, int64_t extent,
                  int64_t inner, int64_t k, int64_t largest, int64_t kind, int64_t bytes)
{
    if (kind == FLOATING && bytes == 4 && inner == 1) {
        first_k(data, values, indices, heap_scratch, outer, extent, 1, k, largest, FLOATING, 4);
    } else {
        first_k(data, values, indices, heap_scratch, outer, extent, inner, k, largest, kind, bytes);
    }
    return 0;
}

typedef struct table {
    const uint64_t *keys;
    int64_t outer, extent, inner;
} table;

/* Less than, equal to or greater than 0 as slice `a` comes before `b`, is like it or comes behind. */
static int compared(const table *of, int64_t a, int64_t b)
{
    for (int64_t block = 0; block < of->outer; ++block) {
        const uint64_t *left = of->keys + (block * of->extent + a) * of->inner;
        const uint64_t *right = of->keys + (block * of->extent + b) * of->inner;
        for (int64_t i = 0; i < of->inner; ++i) {
            if (left[i] != right[i]) {
                return left[i] < right[i] ? -1 : 1;
            }
        }
    }
    return 0;
}

/* Merges sorted runs of `order` until there is one; equal slices keep their order.  Returns where the result is. */
static int64_t *merged(const table *of, int64_t *order, int64_t *other, int64_t size)
{
    for (int64_t run = 1; run < size; run *= 2) {
        for (int64_t start = 0; start < size; start += 2 * run) {
            const int64_t middle = start + run < size ? start + run : size;
            const int64_t end = start + 2 * run < size ? start + 2 * run : size;
            int64_t left = start, right = middle;
            for (int64_t at = start; at < end; ++at) {
                const int take = right >= end || (left < middle && compared(of, order[left], order[right]) <= 0);
                other[at] = take ? order[left++] : order[right++];
            }
        }
        int64_t *const done = other;
        other = order;
        order = done;
    }
    return order;
}

/* The different slices of [outer, extent, inner] along the middle, of which the first `there` (int64) count: as
 * they are sorted, or as they come first.  out [outer, most, inner]; firsts, numbers int64 [most]; inverse int64
 * [extent].  Scratch: a number of 64 bits for each element, and 4 * extent of them. */
int32_t dcc_unique(const void *data, const void *there, void *out, void *firsts, void *inverse, void *numbers,
                   void *count, void *keys_scratch, void *order_scratch, int64_t outer, int64_t extent, int64_t inner,
                   int64_t sorted, int64_t kind, int64_t bytes, int64_t most)
{
    const unsigned char *from = data;
    unsigned char *to = out;
    uint64_t *keys = keys_scratch;
    int64_t *const order = order_scratch, *const first_of = order + 2 * extent, *const rank_of = order + 3 * extent;
    int64_t *first = firsts, *back = inverse, *number = numbers;
    const table of = {keys, outer, extent, inner};
    int64_t here = *(const int64_t *)there, groups = 0;
    here = here > extent ? extent : here;
    memset(out, 0, (size_t)(outer * most * inner * bytes));
    memset(firsts, 0, (size_t)most * sizeof(int64_t));
    memset(numbers, 0, (size_t)most * sizeof(int64_t));
    memset(inverse, 0, (size_t)extent * sizeof(int64_t));
    for (int64_t i = 0; i < outer * extent * inner; ++i) {
        keys[i] = order_of(from + i * bytes, kind, bytes, 0);
    }
    for (int64_t i = 0; i < here; ++i) {
        order[i] = i;
    }
    const int64_t *const sorted_order = merged(&of, order, order + extent, here);
    for (int64_t i = 0; i < here; ++i) {
        if (i == 0 || compared(&of, sorted_order[i - 1], sorted_order[i]) != 0) {
            first_of[groups++] = sorted_order[i];
        }
        back[sorted_order[i]] = groups - 1;
    }
    for (int64_t group = 0; group < groups; ++group) {
        rank_of[group] = group;
    }
    if (sorted == 0) {
        /* A group's first slice is met before its others: groups get their ranks as they are met. */
        int64_t met = 0;
        for (int64_t i = 0; i < here; ++i) {
            if (first_of[back[i]] == i) {
                rank_of[back[i]] = met++;
            }
        }
    }
    for (int64_t group = 0; group < groups; ++group) {
        const int64_t row = rank_of[group];
        if (row >= most) {
            continue;
        }
        first[row] = first_of[group];
        for (int64_t block = 0; block < outer; ++block) {
            memcpy(to + (block * most + row) * inner * bytes, from + (block * extent + first[row]) * inner * bytes,
                   (size_t)(inner * bytes));
        }
    }
    for (int64_t i = 0; i < here; ++i) {
        back[i] = rank_of[back[i]];
        if (back[i] < most) {
            ++number[back[i]];
        }
    }
    *(int64_t *)count = groups;
    return 0;
}
