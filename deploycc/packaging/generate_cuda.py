"""What the generated C header of a package for NVIDIA GPUs has besides."""

from __future__ import annotations

from collections.abc import Mapping

from deploycc.packaging.interface import Interface
from deploycc.templates import fill

_NOTE = """\
 *
 * It runs on NVIDIA GPUs: @CHIPS@.
 * Of CUDA it needs libcuda.so.1 alone, the driver's, which the first call that needs a GPU loads; without
 * it such calls return @N@_ERROR_NO_DRIVER.  A fork's child cannot use a GPU that its parent used.
 * @N@_run takes the host's memory and returns when it is done, @N@_run_async takes the GPU's.
 * @N@_run_async allocates nothing from its second call on.
"""

_LAST_STATUSES = """\
    @N@_ERROR_ABI = 6,      /* library and shared runtime do not fit together */
    @N@_ERROR_NO_DRIVER = 7,  /* the GPU's driver, libcuda.so.1, is missing, too old or does not start */
    @N@_ERROR_NO_DEVICE = 8,  /* there is no such GPU */
    @N@_ERROR_NO_KERNELS = 9, /* this library has no code for the GPU; @N@_last_error says what it has */
    @N@_ERROR_DEVICE = 10     /* the driver reported an error; @N@_last_error says which, and in what */
"""

_OPTION_MEMBERS = """\
    int32_t device;       /* which GPU, as the driver numbers them */
    int32_t graph;        /* 1: a run is one launch of a CUDA graph; 2: the same, and steps that do not depend
                             on one another may run side by side; 0: steps are launched one by one */
"""

_HEADER = """\
/* A GPU as @N@_device_info tells of it. */
typedef struct @N@_gpu {
    char name[96];
    char kernels[32];     /* what the library has for it: "cubin sm_90"; "ptx sm_75", which the driver
                             compiles; "" for nothing */
    int32_t major, minor; /* compute capability */
    int32_t processors;   /* streaming multiprocessors */
    int32_t reserved;
    uint64_t memory_bytes;
} @N@_gpu;

/* GPUs of this machine; 0 of them is no error, a missing driver is.  Texts: @N@_last_error(NULL). */
@N@_API @N@_status @N@_device_count(int32_t *count);
@N@_API @N@_status @N@_device_info(int32_t device, @N@_gpu *gpu);

/* As @N@_run on the GPU's memory: pointers to it, 16-byte aligned, are read and written where they are.
 * `stream` is a CUstream or cudaStream_t of the handle's GPU, or what @N@_stream gives; NULL is CUDA's
 * default stream.  The call returns when the run is in the stream's queue.  Runs of one handle follow one
 * another, whatever their streams.  Changed pointers cost some microseconds.  It cannot be part of a stream
 * capture. */
@N@_API @N@_status @N@_run_async(@N@_handle *handle, const void *const *inputs, void *const *outputs,
                                 void *stream);

/* Waits for the handle's last run and tells what went wrong in those since the last wait. */
@N@_API @N@_status @N@_synchronize(@N@_handle *handle);

/* The handle's own stream (a CUstream), which @N@_destroy ends; and further streams of its GPU. */
@N@_API void *@N@_stream(const @N@_handle *handle);
@N@_API @N@_status @N@_stream_create(@N@_handle *handle, void **stream);
@N@_API @N@_status @N@_stream_destroy(@N@_handle *handle, void *stream);
@N@_API @N@_status @N@_stream_synchronize(@N@_handle *handle, void *stream);

/* Memory of the handle's GPU, for apps without CUDA's own libraries.  Free it before the handle is
 * destroyed. */
@N@_API @N@_status @N@_device_malloc(@N@_handle *handle, size_t bytes, void **memory);
@N@_API @N@_status @N@_device_free(@N@_handle *handle, void *memory);

/* Copies behind the handle's last run; they return when the bytes are there. */
@N@_API @N@_status @N@_copy_to_device(@N@_handle *handle, void *destination, const void *source,
                                      size_t bytes);
@N@_API @N@_status @N@_copy_from_device(@N@_handle *handle, void *destination, const void *source,
                                        size_t bytes);

/* The chips that the library has code for, and which of them a handle runs (@N@_CHIP_COUNT without a
 * handle).  The steps differ between chips: @N@_step_count and @N@_step_name are those of chip 0.  What an
 * observer is given as the arena is a copy in the host's memory. */
#define @N@_CHIP_COUNT @COUNT@
@N@_API uint32_t @N@_chip_count(void);
@N@_API uint32_t @N@_chip(const @N@_handle *handle);
@N@_API const char *@N@_chip_name(uint32_t chip);
@N@_API uint32_t @N@_chip_step_count(uint32_t chip);
@N@_API const char *@N@_chip_step_name(uint32_t chip, uint32_t step);

"""


def note(interface: Interface) -> str:
    """What the head of ``NAME.h`` says of GPUs; empty for a package without, as the others are."""
    chips = ", ".join(f"{gpu.name} ({gpu.arch})" for gpu in interface.gpus)
    return _filled(_NOTE, interface, {"CHIPS": chips})


def last_statuses(interface: Interface) -> str:
    """The last of the statuses in ``NAME.h``."""
    plain = f"    {interface.name}_ERROR_ABI = 6       /* library and shared runtime do not fit together */\n"
    return _filled(_LAST_STATUSES, interface) if interface.gpus else plain


def option_members(interface: Interface) -> str:
    """The last members of the options."""
    return _filled(_OPTION_MEMBERS, interface)


def option_values(interface: Interface) -> str:
    """Their values in the macro that fills options in."""
    return ", 0, 1" if interface.gpus else ""


def header(interface: Interface) -> str:
    """The functions in ``NAME.h``."""
    return _filled(_HEADER, interface, {"COUNT": str(len(interface.gpus))})


def _filled(template: str, interface: Interface, values: Mapping[str, str] | None = None) -> str:
    return fill(template, {"N": interface.name, **(values or {})}) if interface.gpus else ""
