/* TfIdfVectorizer of integers (ONNX 9): how often each n-gram of a pool occurs in each row.
 *
 * The pool comes as `grams` of them: the length of each, where its items start, the column it counts in.  An
 * n-gram is found with every skip from 0 to `skips` between its items; single items once. */
#include <stdint.h>

int32_t dcc_tfidf(const int64_t *rows, const int64_t *items, const int64_t *lengths, const int64_t *starts,
                  const int64_t *columns, float *counts, int64_t row_count, int64_t width, int64_t grams,
                  int64_t column_count, int64_t skips);

static int matches(const int64_t *at, const int64_t *gram, int64_t length, int64_t step)
{
    for (int64_t i = 0; i < length; ++i)
        if (at[i * step] != gram[i])
            return 0;
    return 1;
}

int32_t dcc_tfidf(const int64_t *rows, const int64_t *items, const int64_t *lengths, const int64_t *starts,
                  const int64_t *columns, float *counts, int64_t row_count, int64_t width, int64_t grams,
                  int64_t column_count, int64_t skips)
{
    for (int64_t i = 0; i < row_count * column_count; ++i)
        counts[i] = 0.0f;
    for (int64_t r = 0; r < row_count; ++r)
        for (int64_t g = 0; g < grams; ++g) {
            int64_t length = lengths[g];
            for (int64_t step = 1; step <= (length == 1 ? 1 : skips + 1); ++step)
                for (int64_t at = 0; at + (length - 1) * step < width; ++at)
                    if (matches(rows + r * width + at, items + starts[g], length, step))
                        counts[r * column_count + columns[g]] += 1.0f;
        }
    return 0;
}
