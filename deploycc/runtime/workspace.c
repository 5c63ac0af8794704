/* Temporary memory of kernels: one block per participant, taken in stack order. */
#include "deploycc_rt.h"

void dcc_workspace_init(dcc_workspace *workspace, void *base, size_t size) {
    workspace->base = base;
    workspace->size = size;
    workspace->top = 0;
    workspace->live = 0;
}

/* Of each live block where it starts, in units of DCC_ALIGNMENT, and in the lowest bit whether it was freed. */
static uint32_t *note(const dcc_workspace *workspace, size_t block) {
    return (uint32_t *)(void *)(workspace->base + workspace->size) + block;
}

static size_t start_of(const dcc_workspace *workspace, size_t block) {
    return (size_t)(*note(workspace, block) >> 1) * DCC_ALIGNMENT;
}

void *dcc_workspace_take(dcc_workspace *workspace, uint64_t bytes) {
    size_t room = workspace->size - workspace->top;
    if (bytes > room || workspace->top / DCC_ALIGNMENT > UINT32_MAX >> 1) {
        return NULL;
    }
    size_t rounded = ((size_t)bytes + (DCC_ALIGNMENT - 1)) & ~(size_t)(DCC_ALIGNMENT - 1);
    if (rounded == 0) {
        rounded = DCC_ALIGNMENT; /* distinct blocks have distinct addresses */
    }
    if (rounded > room) {
        return NULL;
    }
    *note(workspace, workspace->live) = (uint32_t)(workspace->top / DCC_ALIGNMENT) << 1;
    workspace->live++;
    void *block = workspace->base + workspace->top;
    workspace->top += rounded;
    return block;
}

int dcc_workspace_give(dcc_workspace *workspace, const void *block) {
    size_t at = workspace->live;
    while (at > 0 && (const void *)(workspace->base + start_of(workspace, at - 1)) != block) {
        at--;
    }
    if (at == 0 || (*note(workspace, at - 1) & 1u) != 0) {
        return -1;
    }
    *note(workspace, at - 1) |= 1u;
    /* A block freed below a live one is kept until everything above it is gone. */
    while (workspace->live > 0 && (*note(workspace, workspace->live - 1) & 1u) != 0) {
        workspace->live--;
        workspace->top = start_of(workspace, workspace->live);
    }
    return 0;
}

void *dcc_alloc_workspace(int device_type, int device_id, uint64_t bytes, int code, int bits) {
    (void)device_type, (void)device_id, (void)code, (void)bits;
    dcc_thread *thread = dcc_this_thread();
    dcc_workspace *workspace = thread == NULL ? NULL : thread->workspace;
    return workspace == NULL ? NULL : dcc_workspace_take(workspace, bytes);
}

int dcc_free_workspace(int device_type, int device_id, void *block) {
    (void)device_type, (void)device_id;
    dcc_thread *thread = dcc_this_thread();
    dcc_workspace *workspace = thread == NULL ? NULL : thread->workspace;
    return workspace == NULL ? -1 : dcc_workspace_give(workspace, block);
}
