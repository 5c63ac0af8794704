/* Modules: the kernels that an image has, by name, and who runs them here. */
#ifndef _GNU_SOURCE
#define _GNU_SOURCE
#endif
#include "emulated.h"

#include <ctype.h>
#include <dlfcn.h>
#include <elf.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define EM_CUDA_MACHINE 190
#define MOST_TRANSLATED 64

struct CUmod_st {
    struct CUfunc_st *functions;
};

static const dcc_emulated_module *translated[MOST_TRANSLATED];
static size_t translated_count;
static char *looked_at;

/* A process that gets other kernels as it goes on (a tuner) sets the variable anew. */
static void load_translated(void) {
    const char *at = getenv("DEPLOYCC_EMULATED_KERNELS");
    if (looked_at != NULL && strcmp(looked_at, at == NULL ? "" : at) == 0) {
        return;
    }
    free(looked_at);
    looked_at = strdup(at == NULL ? "" : at);
    translated_count = 0;
    while (at != NULL && *at != '\0') {
        const size_t length = strcspn(at, ":");
        char path[4096];
        (void)snprintf(path, sizeof path, "%.*s", (int)length, at);
        at += length + (at[length] == ':');
        if (*path == '\0' || translated_count == MOST_TRANSLATED) {
            continue;
        }
        void *library = dlopen(path, RTLD_NOW | RTLD_LOCAL);
        const dcc_emulated_module *module = library == NULL ? NULL : dlsym(library, "dcc_emulated_module_table");
        if (module == NULL || module->abi != 1) {
            const char *why = library == NULL || module == NULL ? dlerror() : "another abi";
            (void)fprintf(stderr, "emulated GPU: %s cannot be used: %s\n", path, why == NULL ? "?" : why);
            abort();
        }
        translated[translated_count++] = module;
        /* It may ask about each access to memory, if it was made to (deploycc/emulating/runtime/emulated.h). */
        const char *unchecked = getenv("DEPLOYCC_EMULATED_CHECK");
        int (**check)(const void *, uint64_t) = dlsym(library, "dcc_emulated_check");
        if (check != NULL && (unchecked == NULL || strcmp(unchecked, "0") != 0)) {
            *check = emulated_may_touch;
        }
    }
}

static const dcc_emulated_kernel *find_translated(const char *name) {
    load_translated();
    for (size_t m = 0; m < translated_count; m++) {
        for (uint32_t i = 0; i < translated[m]->kernel_count; i++) {
            if (strcmp(translated[m]->kernels[i].name, name) == 0) {
                return &translated[m]->kernels[i];
            }
        }
    }
    return NULL;
}

static cu_result add(cu_module module, const char *name, size_t length) {
    struct CUfunc_st *made = calloc(1, sizeof *made + length + 1);
    if (made == NULL) {
        return CU_OUT_OF_MEMORY;
    }
    memcpy(made->name, name, length);
    made->kernel = find_translated(made->name);
    made->next = module->functions;
    module->functions = made;
    return CU_OK;
}

static int fits(int major, int minor, int is_cubin) {
    const emulated_chip *chip = emulated_arch();
    return is_cubin ? major == chip->major && minor <= chip->minor
                    : 10 * major + minor <= 10 * chip->major + chip->minor;
}

static cu_result read_cubin(cu_module module, const unsigned char *image) {
    const Elf64_Ehdr *head = (const void *)image;
    if (head->e_machine != EM_CUDA_MACHINE || head->e_shentsize != sizeof(Elf64_Shdr)) {
        return CU_INVALID_IMAGE;
    }
    const int number = (int)((head->e_ident[EI_ABIVERSION] >= 8 ? head->e_flags >> 8 : head->e_flags) & 0xFF);
    if (!fits(number / 10, number % 10, 1)) {
        return CU_NO_BINARY_FOR_GPU;
    }
    const Elf64_Shdr *sections = (const void *)(image + head->e_shoff);
    const char *names = (const char *)image + sections[head->e_shstrndx].sh_offset;
    cu_result result = CU_OK;
    for (int i = 0; i < head->e_shnum && result == CU_OK; i++) {
        const char *name = names + sections[i].sh_name;
        if (strncmp(name, ".text.", 6) == 0) {
            result = add(module, name + 6, strlen(name + 6));
        }
    }
    return result;
}

static cu_result read_ptx(cu_module module, const char *text) {
    const char *target = strstr(text, ".target");
    const char *arch = target == NULL ? NULL : strstr(target, "sm_");
    if (strstr(text, ".version") == NULL || arch == NULL) {
        return CU_INVALID_PTX;
    }
    const int number = atoi(arch + 3);
    const char last = arch[3 + strspn(arch + 3, "0123456789")];
    const emulated_chip *chip = emulated_arch();
    const int is_exact = last == 'a' || last == 'f';
    if (!fits(number / 10, number % 10, 0) || (is_exact && number != 10 * chip->major + chip->minor)) {
        return CU_NO_BINARY_FOR_GPU;
    }
    cu_result result = CU_OK;
    for (const char *at = strstr(text, ".entry"); at != NULL && result == CU_OK; at = strstr(at, ".entry")) {
        at += 6;
        at += strspn(at, " \t\r\n");
        size_t length = 0;
        while (isalnum((unsigned char)at[length]) || at[length] == '_' || at[length] == '$') {
            length++;
        }
        result = length == 0 ? CU_INVALID_PTX : add(module, at, length);
    }
    return result;
}

static void clear(cu_module module) {
    while (module->functions != NULL) {
        struct CUfunc_st *next = module->functions->next;
        free(module->functions);
        module->functions = next;
    }
    free(module);
}

EXPORT cu_result cuModuleLoadDataEx(cu_module *module, const void *image, uint32_t count, int32_t *options,
                                    void **values) {
    const unsigned char *bytes = image;
    const int is_elf = memcmp(bytes, ELFMAG, SELFMAG) == 0;
    ENTER("cuModuleLoadDataEx", " %s", is_elf ? "cubin" : "ptx");
    cu_module made = calloc(1, sizeof *made);
    if (made == NULL) {
        return emulated_leave(CU_OUT_OF_MEMORY);
    }
    const cu_result result = is_elf ? read_cubin(made, bytes) : read_ptx(made, image);
    if (result != CU_OK) {
        for (uint32_t i = 0; i + 1 < count; i++) {
            if (options[i] == CU_JIT_ERROR_LOG && options[i + 1] == CU_JIT_ERROR_LOG_BYTES) {
                (void)snprintf(values[i], (size_t)(uintptr_t)values[i + 1], "emulated: image refused\n");
            }
        }
        clear(made);
        return emulated_leave(result);
    }
    emulated_live[LIVE_MODULES]++;
    *module = made;
    return emulated_leave(CU_OK);
}

EXPORT cu_result cuModuleUnload(cu_module module) {
    ENTER("cuModuleUnload", "%s", "");
    work_drain_all();
    clear(module);
    emulated_live[LIVE_MODULES]--;
    return emulated_leave(CU_OK);
}

EXPORT cu_result cuModuleGetFunction(cu_function *function, cu_module module, const char *name) {
    ENTER("cuModuleGetFunction", " %s", name);
    struct CUfunc_st *found = module->functions;
    while (found != NULL && strcmp(found->name, name) != 0) {
        found = found->next;
    }
    *function = found;
    return emulated_leave(found == NULL ? CU_NOT_FOUND : CU_OK);
}

EXPORT cu_result cuFuncSetAttribute(cu_function function, int32_t attribute, int32_t value) {
    ENTER("cuFuncSetAttribute", " %s %d %d", function->name, (int)attribute, (int)value);
    const uint32_t most = emulated_arch()->shared_bytes;
    const uint32_t fixed = function->kernel == NULL ? 0 : function->kernel->static_shared_bytes;
    if (attribute != CU_FUNCTION_MAX_DYNAMIC_SHARED || value < 0 || (uint32_t)value + fixed > most) {
        return emulated_leave(CU_INVALID_VALUE);
    }
    function->dynamic_shared = (uint32_t)value;
    return emulated_leave(CU_OK);
}
