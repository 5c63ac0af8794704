/* Which of a package's variants takes given shapes. */
#include "deploycc_rt.h"

#include "handle.h"

#include <stdio.h>
#include <string.h>

#define TEXT_BYTES 256

dcc_status dcc_select(dcc_handle *handle, const dcc_model *model, const char *why) {
    dcc_status status = dcc_enter(handle, __func__);
    if (status != DCC_OK) {
        return status;
    }
    const dcc_model *now = handle->model;
    if (model == NULL) {
        status = dcc_fail(handle, DCC_ERROR_ARGUMENT, "%s", why);
    } else if (model->abi != DCC_ABI || model->arena_bytes != now->arena_bytes
               || model->workspace_bytes != now->workspace_bytes
               || model->thread_workspace_bytes != now->thread_workspace_bytes || handle->timers != NULL) {
        status = dcc_fail(handle, DCC_ERROR_ARGUMENT, "the handle was not made for this model");
    } else {
        handle->model = model;
    }
    dcc_leave(handle);
    return status;
}

const dcc_model *dcc_selected(const dcc_handle *handle) {
    return handle == NULL || !dcc_is_handle(handle, __func__) ? NULL : handle->model;
}

static int takes(const dcc_model *model, const int64_t *const *shapes) {
    for (uint32_t i = 0; i < model->input_count; i++) {
        const size_t rank = (size_t)model->inputs[i].rank;
        if (rank > 0 && (shapes[i] == NULL || memcmp(shapes[i], model->inputs[i].shape, rank * sizeof(int64_t)) != 0)) {
            return 0;
        }
    }
    return 1;
}

uint32_t dcc_find_shapes(const dcc_model *const *models, uint32_t count, const int64_t *const *shapes) {
    uint32_t found = 0;
    if (shapes == NULL) {
        return count;
    }
    while (found < count && !takes(models[found], shapes)) {
        found++;
    }
    return found;
}

static size_t add(char *text, size_t used, const char *format, const char *word, long long number) {
    const int more = used < TEXT_BYTES ? snprintf(text + used, TEXT_BYTES - used, format, word, number) : 0;
    return used + (size_t)(more > 0 ? more : 0);
}

dcc_status dcc_select_shapes(dcc_handle *handle, const dcc_model *const *models, uint32_t count,
                             const int64_t *const *shapes, const char *declared) {
    const uint32_t found = dcc_find_shapes(models, count, shapes);
    if (found < count) {
        return dcc_select(handle, models[found], "");
    }
    char text[TEXT_BYTES] = "";
    size_t used = add(text, 0, "%s", "no variant for these shapes", 0);
    for (uint32_t i = 0; shapes != NULL && i < models[0]->input_count; i++) {
        const dcc_tensor *input = &models[0]->inputs[i];
        used = add(text, used, i == 0 ? ": %.40s" : ", %.40s", input->name, 0);
        for (int32_t axis = 0; axis < input->rank && shapes[i] != NULL; axis++) {
            used = add(text, used, "%s%lld", axis == 0 ? "=" : "x", (long long)shapes[i][axis]);
        }
    }
    (void)add(text, used, "; declared: %s", declared, 0);
    return dcc_select(handle, NULL, text);
}
