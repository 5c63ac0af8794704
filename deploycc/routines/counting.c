/* Operators whose results have as many rows as the data says: NonZero and Compress.
 *
 * Each writes at most `most` rows, zeros behind them, and the number of rows there would be.
 */
#include <stdint.h>
#include <string.h>

int32_t dcc_nonzero(const void *flags, void *out, void *count, void *shape_scratch, int64_t rank, int64_t elements,
                    int64_t most, int64_t d0, int64_t d1, int64_t d2, int64_t d3, int64_t d4, int64_t d5, int64_t d6,
                    int64_t d7);
int32_t dcc_compress(const void *data, const void *condition, void *out, void *count, int64_t outer, int64_t extent,
                     int64_t row_bytes, int64_t conditions, int64_t most);

/* The indices of the elements of `flags` (bytes, 0 or 1) that are set: int64 [rank, most], row-major order.
 * `shape_scratch` is int64 [rank]: the place of the element that is looked at. */
int32_t dcc_nonzero(const void *flags, void *out, void *count, void *shape_scratch, int64_t rank, int64_t elements,
                    int64_t most, int64_t d0, int64_t d1, int64_t d2, int64_t d3, int64_t d4, int64_t d5, int64_t d6,
                    int64_t d7)
{
    const int64_t shape[8] = {d0, d1, d2, d3, d4, d5, d6, d7};
    const unsigned char *set = flags;
    int64_t *found = out;
    int64_t *at = shape_scratch;
    const int64_t last = shape[rank - 1];
    int64_t rows = 0;
    memset(out, 0, (size_t)(rank * most) * sizeof(int64_t));
    memset(at, 0, (size_t)rank * sizeof(int64_t));
    for (int64_t start = 0; start < elements; start += last) {
        for (int64_t i = 0; i < last; ++i) {
            uint64_t eight;
            /* Most masks are mostly empty: eight elements at a time. */
            while (i + 8 <= last && (memcpy(&eight, set + start + i, 8), eight == 0)) {
                i += 8;
            }
            if (i >= last || set[start + i] == 0) {
                continue;
            }
            if (rows < most) {
                for (int64_t axis = 0; axis + 1 < rank; ++axis) {
                    found[axis * most + rows] = at[axis];
                }
                found[(rank - 1) * most + rows] = i;
            }
            ++rows;
        }
        for (int64_t axis = rank - 2; axis >= 0 && ++at[axis] == shape[axis]; --axis) {
            at[axis] = 0;
        }
    }
    *(int64_t *)count = rows;
    return 0;
}

/* The rows of `data` [outer, extent, row_bytes] whose condition (bytes, 0 or 1) is set: [outer, most, row_bytes]. */
int32_t dcc_compress(const void *data, const void *condition, void *out, void *count, int64_t outer, int64_t extent,
                     int64_t row_bytes, int64_t conditions, int64_t most)
{
    const unsigned char *from = data, *set = condition;
    unsigned char *to = out;
    int64_t rows = 0;
    memset(out, 0, (size_t)(outer * most * row_bytes));
    if (conditions > extent) {
        conditions = extent;
    }
    for (int64_t i = 0; i < conditions; ++i) {
        if (set[i] == 0) {
            continue;
        }
        if (rows < most) {
            for (int64_t block = 0; block < outer; ++block) {
                memcpy(to + (block * most + rows) * row_bytes, from + (block * extent + i) * row_bytes,
                       (size_t)row_bytes);
            }
        }
        ++rows;
    }
    *(int64_t *)count = rows;
    return 0;
}
