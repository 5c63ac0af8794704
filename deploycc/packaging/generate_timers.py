"""What the generated C and C++ of a package with timers have besides."""

from __future__ import annotations

from deploycc.packaging.interface import Interface
from deploycc.templates import fill

_HEADER = """\
/* What a step took since the handle was made or @N@_profile_reset: nanoseconds. */
typedef struct @N@_step_time {
    uint64_t runs;   /* that were timed: of very short ones not all are */
    uint64_t total_ns;
    uint64_t min_ns; /* 0 as long as runs is */
    uint64_t max_ns;
} @N@_step_time;

/* This library was built with timers.  Writes the times of all steps; count must be @N@_step_count(). */
@N@_API @N@_status @N@_profile(@N@_handle *handle, @N@_step_time *times, uint32_t count);

/* Counts from 0 again. */
@N@_API @N@_status @N@_profile_reset(@N@_handle *handle);

"""

_SOURCE = """
_Static_assert(sizeof(@N@_step_time) == sizeof(dcc_step_time), "step time");

@N@_status @N@_profile(@N@_handle *handle, @N@_step_time *times, uint32_t count) {
    return (@N@_status)dcc_profile((dcc_handle *)(void *)handle, (dcc_step_time *)(void *)times, count);
}

@N@_status @N@_profile_reset(@N@_handle *handle) {
    return (@N@_status)dcc_profile_reset((dcc_handle *)(void *)handle);
}
"""

_METHODS = """\
    /// What each step took since the model was made or reset_profile(): this library was built with timers.
    ::std::vector<@N@_step_time> profile() const {
        ::std::vector<@N@_step_time> times(@N@_step_count());
        const @N@_status status = @N@_profile(handle_, times.data(), @N@_step_count());
        if (status != @N@_OK) {
            fail(status);
        }
        return times;
    }

    /// Counts from 0 again.
    void reset_profile() {
        const @N@_status status = @N@_profile_reset(handle_);
        if (status != @N@_OK) {
            fail(status);
        }
    }

"""


def header(interface: Interface) -> str:
    """For ``NAME.h``; empty for a package without timers, as the others are."""
    return _filled(_HEADER, interface)


def source(interface: Interface) -> str:
    """For the end of the model definition."""
    return _filled(_SOURCE, interface)


def method(interface: Interface) -> str:
    """For the class ``Model`` of ``NAME.hpp``."""
    return _filled(_METHODS, interface)


def _filled(template: str, interface: Interface) -> str:
    return fill(template, {"N": interface.name}) if interface.profile else ""
