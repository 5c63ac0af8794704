/* With DCC_DEBUG: which handles there are, so that calls after destroy are told and do no harm.
 *
 * A destroyed handle's own memory is given back only when so many others have been destroyed since: until then no
 * new handle has its address.  The list takes no lock, since a fork might leave it taken. */
#include "deploycc_rt.h"

#include "handle.h"

#if defined(DCC_DEBUG)
#include <stdio.h>
#include <stdlib.h>

#define MOST_HANDLES 4096
#define HELD_BACK 64

static _Atomic(dcc_handle *) handles[MOST_HANDLES];
static _Atomic uint32_t unlisted; /* for which there was no room: with any, every handle is taken for one */
static _Atomic(dcc_handle *) held_back[HELD_BACK];
static _Atomic uint32_t destroyed;

void dcc_note_made(dcc_handle *handle) {
    for (size_t i = 0; i < MOST_HANDLES; i++) {
        dcc_handle *nobody = NULL;
        if (atomic_compare_exchange_strong(&handles[i], &nobody, handle)) {
            return;
        }
    }
    (void)atomic_fetch_add(&unlisted, 1);
}

void dcc_note_destroyed(dcc_handle *handle) {
    for (size_t i = 0; i < MOST_HANDLES; i++) {
        dcc_handle *listed = handle;
        if (atomic_compare_exchange_strong(&handles[i], &listed, NULL)) {
            break;
        }
    }
    free(atomic_exchange(&held_back[atomic_fetch_add(&destroyed, 1) % HELD_BACK], handle));
}

int dcc_is_handle(const dcc_handle *handle, const char *function) {
    for (size_t i = 0; i < MOST_HANDLES; i++) {
        if (atomic_load(&handles[i]) == handle) {
            return 1;
        }
    }
    if (atomic_load(&unlisted) > 0) {
        return 1;
    }
    (void)dcc_fail(NULL, DCC_ERROR_ARGUMENT, "%s: the handle was destroyed, or never was one", function);
    (void)fprintf(stderr, "deploycc: %s: the handle was destroyed, or never was one\n", function);
    return 0;
}

__attribute__((destructor)) static void give_back(void) {
    for (size_t i = 0; i < HELD_BACK; i++) {
        free(atomic_exchange(&held_back[i], NULL));
    }
}
#endif
