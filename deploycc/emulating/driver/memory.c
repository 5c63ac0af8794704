/* Memory of the device and pinned memory of the host, each block between two guard zones. */
#ifndef _GNU_SOURCE
#define _GNU_SOURCE
#endif
#include "emulated.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define GUARD 512
#define GUARD_BYTE 0xC3
#define FRESH_BYTE 0xFF /* of floats: not a number */
#define TOTAL ((size_t)16 << 30)

typedef struct block {
    struct block *next;
    unsigned char *start; /* behind the first guard zone */
    size_t bytes;
    int is_device;
} block;

static block *blocks;
static size_t used;
static uint64_t changes; /* of the list */

static cu_result take(size_t bytes, int is_device, void **memory) {
    block *made = malloc(sizeof *made);
    void *whole = NULL;
    if (bytes == 0) {
        free(made);
        return CU_INVALID_VALUE;
    }
    if (made == NULL || used + bytes > TOTAL || posix_memalign(&whole, 512, bytes + (size_t)2 * GUARD) != 0) {
        free(made);
        return CU_OUT_OF_MEMORY;
    }
    made->start = (unsigned char *)whole + GUARD;
    made->bytes = bytes;
    made->is_device = is_device;
    memset(whole, GUARD_BYTE, GUARD);
    memset(made->start, FRESH_BYTE, bytes);
    memset(made->start + bytes, GUARD_BYTE, GUARD);
    made->next = blocks;
    blocks = made;
    used += is_device ? bytes : 0;
    changes++;
    emulated_live[is_device ? LIVE_MEMORY : LIVE_HOST_MEMORY]++;
    *memory = made->start;
    return CU_OK;
}

static void check(const block *one, const char *when) {
    const unsigned char *zones[2] = {one->start - GUARD, one->start + one->bytes};
    for (int side = 0; side < 2; side++) {
        for (size_t i = 0; i < GUARD; i++) {
            if (zones[side][i] != GUARD_BYTE) {
                const long long at = side == 0 ? (long long)i - GUARD : (long long)(one->bytes + i);
                emulated_break(CU_ILLEGAL_ADDRESS, "out of range: byte %lld of a block of %zu bytes was written, seen %s",
                               at, one->bytes, when);
                memset((void *)(uintptr_t)zones[side], GUARD_BYTE, GUARD);
                return;
            }
        }
    }
}

void emulated_check_guards(const char *when) {
    for (const block *one = blocks; one != NULL; one = one->next) {
        check(one, when);
    }
}

static cu_result give(const void *memory, int is_device) {
    work_drain_all(); /* as the driver does */
    block **link = &blocks;
    while (*link != NULL && ((*link)->start != memory || (*link)->is_device != is_device)) {
        link = &(*link)->next;
    }
    block *found = *link;
    if (found == NULL) {
        return CU_INVALID_VALUE;
    }
    check(found, "when it was freed");
    *link = found->next;
    used -= is_device ? found->bytes : 0;
    changes++;
    emulated_live[is_device ? LIVE_MEMORY : LIVE_HOST_MEMORY]--;
    free(found->start - GUARD);
    free(found);
    return CU_OK;
}

static const block *block_of(cu_address address, size_t bytes) {
    for (const block *one = blocks; one != NULL; one = one->next) {
        const cu_address start = (cu_address)(uintptr_t)one->start;
        if (address >= start && address <= start + one->bytes && bytes <= start + one->bytes - address) {
            return one;
        }
    }
    return NULL;
}

int emulated_is_device(cu_address address, size_t bytes) {
    const block *found = block_of(address, bytes);
    return found != NULL && found->is_device;
}

int emulated_is_known(cu_address address) {
    return block_of(address, 0) != NULL;
}

int emulated_may_touch(const void *address, uint64_t bytes) {
    static const block *last; /* most accesses are to where the one before was */
    static uint64_t seen;     /* of which state of the list */
    if (last != NULL && seen == changes && address >= (const void *)last->start
        && bytes <= (uint64_t)(last->start + last->bytes - (const unsigned char *)address)
        && (const unsigned char *)address <= last->start + last->bytes) {
        return 1;
    }
    last = block_of((cu_address)(uintptr_t)address, (size_t)bytes);
    seen = changes;
    return last != NULL;
}

EXPORT cu_result cuMemAlloc_v2(cu_address *address, size_t bytes) {
    ENTER("cuMemAlloc_v2", " %zu", bytes);
    void *memory = NULL;
    const cu_result result = take(bytes, 1, &memory);
    *address = (cu_address)(uintptr_t)memory;
    return emulated_leave(result);
}

EXPORT cu_result cuMemFree_v2(cu_address address) {
    ENTER("cuMemFree_v2", "%s", "");
    return emulated_leave(give((const void *)(uintptr_t)address, 1));
}

EXPORT cu_result cuMemGetInfo_v2(size_t *free_bytes, size_t *total_bytes) {
    ENTER("cuMemGetInfo_v2", "%s", "");
    *free_bytes = TOTAL - used;
    *total_bytes = TOTAL;
    return emulated_leave(CU_OK);
}

EXPORT cu_result cuMemHostAlloc(void **memory, size_t bytes, uint32_t flags) {
    ENTER("cuMemHostAlloc", " %zu %u", bytes, (unsigned)flags);
    return emulated_leave(take(bytes, 0, memory));
}

EXPORT cu_result cuMemFreeHost(void *memory) {
    ENTER("cuMemFreeHost", "%s", "");
    return emulated_leave(give(memory, 0));
}

EXPORT cu_result cuPointerGetAttribute(void *value, int32_t attribute, cu_address address) {
    ENTER("cuPointerGetAttribute", " %d", (int)attribute);
    const block *found = block_of(address, 1);
    if (found == NULL || attribute != CU_POINTER_MEMORY_TYPE) {
        return emulated_leave(CU_INVALID_VALUE);
    }
    *(uint32_t *)value = found->is_device ? CU_MEMORY_DEVICE : CU_MEMORY_HOST;
    return emulated_leave(CU_OK);
}
