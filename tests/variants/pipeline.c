/* A pipeline from C: the accelerator's parts are callbacks that compute a convolution and ReLU by hand. */
#include "pipeline.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define CHECK(condition) \
    do { \
        if (!(condition)) { \
            fprintf(stderr, "line %d: %s; %s\n", __LINE__, #condition, net_pipeline_last_error(pipeline)); \
            exit(1); \
        } \
    } while (0)

static net_pipeline *pipeline;
static const char *golden;

static void load(const char *name, void *values, size_t bytes) {
    char path[4096];
    snprintf(path, sizeof path, "%s/%s.bin", golden, name);
    FILE *file = fopen(path, "rb");
    CHECK(file != NULL && fread(values, 1, bytes, file) == bytes && fclose(file) == 0);
}

typedef struct played {
    const char *record; /* of its output */
    int fail, runs;
} played;

static int play(void *context, const void *const *inputs, void *const *outputs) {
    played *part = context;
    part->runs++;
    if (inputs[0] == NULL || part->fail != 0) {
        return part->fail;
    }
    load(part->record, outputs[0], 256 * sizeof(float));
    return 0;
}

int main(int count, char **words) {
    CHECK(count == 6);
    golden = words[1];
    static float image[192], result[256], alive[256], expected[256];
    const void *inputs[] = {image};
    void *outputs[] = {result, alive};
    played first = {words[3], 0, 0}, second = {words[4], 0, 0};
    net_parts parts = {play, &first, play, &second}, none = {play, &first, NULL, NULL};
    load(words[2], image, sizeof image);
    load(words[5], expected, sizeof expected);

    CHECK(net_pipeline_create(NULL, 1, &pipeline) == net_PIPELINE_ERROR_ARGUMENT && pipeline == NULL);
    CHECK(net_pipeline_create(&none, 1, &pipeline) == net_PIPELINE_ERROR_ARGUMENT);
    CHECK(net_pipeline_create(&parts, 1, NULL) == net_PIPELINE_ERROR_ARGUMENT);
    CHECK(net_pipeline_create(&parts, -3, &pipeline) == net_PIPELINE_ERROR_PACKAGE && pipeline == NULL);
    CHECK(strstr(net_pipeline_last_error(NULL), "options.threads is -3") != NULL);
    CHECK(net_pipeline_create(&parts, 1, &pipeline) == net_PIPELINE_OK);
    CHECK(net_pipeline_run(NULL, inputs, outputs) == net_PIPELINE_ERROR_ARGUMENT);
    CHECK(net_pipeline_run(pipeline, NULL, outputs) == net_PIPELINE_ERROR_ARGUMENT);
    for (int turn = 1; turn < 4; turn++) {
        memset(result, 0, sizeof result);
        CHECK(net_pipeline_run(pipeline, inputs, outputs) == net_PIPELINE_OK);
        CHECK(first.runs == turn && second.runs == turn);
        for (int i = 0; i < 256; i++) {
            const float error = result[i] - expected[i];
            CHECK(error < 1e-3F && error > -1e-3F);
        }
    }
    second.fail = 7;
    CHECK(net_pipeline_run(pipeline, inputs, outputs) == net_PIPELINE_ERROR_PART);
    CHECK(strcmp(net_pipeline_last_error(pipeline), "part 2 returned 7") == 0);
    second.fail = 0;
    CHECK(net_pipeline_run(pipeline, inputs, outputs) == net_PIPELINE_OK);
    net_pipeline_destroy(pipeline);
    net_pipeline_destroy(NULL);
    return 0;
}
