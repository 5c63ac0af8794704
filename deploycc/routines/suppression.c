/* NonMaxSuppression of float32 boxes, with the arithmetic and the ties of ONNX Runtime. */
#include <stdint.h>
#include <string.h>

/* A product and a sum fused into one rounding would move overlaps that equal the threshold. */
#if defined(__clang__)
#pragma STDC FP_CONTRACT OFF
#elif defined(__GNUC__)
#pragma GCC optimize("fp-contract=off")
#endif

#define TOGETHER 16

int32_t dcc_suppress(const void *boxes, const void *scores, const void *most_a_class, const void *iou_threshold,
                     const void *score_threshold, const void *there, void *out, void *count, void *heap_scratch,
                     void *selected_scratch, int64_t batches, int64_t classes, int64_t extent, int64_t centred,
                     int64_t filtered, int64_t most);

typedef struct candidate {
    float score;
    int32_t box;
} candidate;

/* Higher scores first, of equal ones the box that comes first. */
static int before(candidate a, candidate b)
{
    return a.score > b.score || (a.score == b.score && a.box < b.box);
}

static void sink(candidate *heap, int64_t size, int64_t at)
{
    const candidate moved = heap[at];
    for (;;) {
        int64_t child = 2 * at + 1;
        if (child >= size) {
            break;
        }
        if (child + 1 < size && before(heap[child + 1], heap[child])) {
            ++child;
        }
        if (!before(heap[child], moved)) {
            break;
        }
        heap[at] = heap[child];
        at = child;
    }
    heap[at] = moved;
}

/* left, top, right, bottom and area of a box */
static void corners(const float *box, int64_t centred, float *made)
{
    float x0, x1, y0, y1;
    if (centred != 0) {
        const float half_width = box[2] / 2, half_height = box[3] / 2;
        x0 = box[0] - half_width;
        x1 = box[0] + half_width;
        y0 = box[1] - half_height;
        y1 = box[1] + half_height;
    } else {
        y0 = box[0] >= box[2] ? box[2] : box[0];
        y1 = box[0] >= box[2] ? box[0] : box[2];
        x0 = box[1] >= box[3] ? box[3] : box[1];
        x1 = box[1] >= box[3] ? box[1] : box[3];
    }
    made[0] = x0;
    made[1] = y0;
    made[2] = x1;
    made[3] = y1;
    made[4] = (x1 - x0) * (y1 - y0);
}

/* Whether a box overlaps one of the first `number` of those selected by more than the threshold. */
static int overlaps(const float *box, const float *selected, int64_t room, int64_t number, float threshold)
{
    const float *left = selected, *top = left + room, *right = top + room, *bottom = right + room;
    const float *area = bottom + room;
    for (int64_t start = 0; start < number; start += TOGETHER) {
        int32_t any = 0;
        /* Entries behind the last one have no area. */
        for (int64_t i = start; i < start + TOGETHER; ++i) {
            const float x0 = box[0] < left[i] ? left[i] : box[0], x1 = right[i] < box[2] ? right[i] : box[2];
            const float y0 = box[1] < top[i] ? top[i] : box[1], y1 = bottom[i] < box[3] ? bottom[i] : box[3];
            const float shared = (x1 - x0) * (y1 - y0);
            const float together = box[4] + area[i] - shared;
            any |= !(x1 <= x0) & !(y1 <= y0) & !(shared <= 0) & !(box[4] <= 0) & !(area[i] <= 0)
                   & !(together <= 0) & (shared / together > threshold);
        }
        if (any != 0) {
            return 1;
        }
    }
    return 0;
}

/* boxes float32 [batches, extent, 4], scores float32 [batches, classes, extent] -> out int64 [most, 3]: batch,
 * class, box.  `there` (int64) is how many of `extent` boxes there are.  Scratch: a candidate for each box, and
 * float32 [5, room], where room is `extent` and as much more as makes it a multiple of TOGETHER. */
int32_t dcc_suppress(const void *boxes, const void *scores, const void *most_a_class, const void *iou_threshold,
                     const void *score_threshold, const void *there, void *out, void *count, void *heap_scratch,
                     void *selected_scratch, int64_t batches, int64_t classes, int64_t extent, int64_t centred,
                     int64_t filtered, int64_t most)
{
    const float overlap = *(const float *)iou_threshold, lowest = *(const float *)score_threshold;
    const int64_t room = (extent + TOGETHER - 1) / TOGETHER * TOGETHER;
    candidate *heap = heap_scratch;
    float *selected = selected_scratch;
    int64_t *found = out;
    int64_t limit = *(const int64_t *)most_a_class, here = *(const int64_t *)there, rows = 0;
    here = here > extent ? extent : here;
    memset(out, 0, (size_t)most * 3 * sizeof(int64_t));
    for (int64_t batch = 0; batch < batches; ++batch) {
        const float *box = (const float *)boxes + batch * extent * 4;
        for (int64_t class = 0; class < classes; ++class) {
            const float *score = (const float *)scores + (batch * classes + class) * extent;
            int64_t size = 0, number = 0;
            for (int64_t i = 0; i < here; ++i) {
                heap[size].score = score[i];
                heap[size].box = (int32_t)i;
                size += filtered == 0 || score[i] > lowest;
            }
            for (int64_t i = size / 2 - 1; i >= 0; --i) {
                sink(heap, size, i);
            }
            while (size > 0 && number < limit) {
                const candidate next = heap[0];
                float made[5];
                heap[0] = heap[--size];
                sink(heap, size, 0);
                corners(box + 4 * (int64_t)next.box, centred, made);
                if (overlaps(made, selected, room, number, overlap)) {
                    continue;
                }
                if (number % TOGETHER == 0) {
                    for (int64_t part = 0; part < 5; ++part) {
                        memset(selected + part * room + number, 0, TOGETHER * sizeof(float));
                    }
                }
                for (int64_t part = 0; part < 5; ++part) {
                    selected[part * room + number] = made[part];
                }
                ++number;
                if (rows < most) {
                    found[3 * rows] = batch;
                    found[3 * rows + 1] = class;
                    found[3 * rows + 2] = next.box;
                }
                ++rows;
            }
        }
    }
    *(int64_t *)count = rows;
    return 0;
}
