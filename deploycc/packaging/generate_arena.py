"""What the generated C and C++ of a package with the shared runtime have besides: one arena for several."""

from __future__ import annotations

from deploycc.packaging.interface import Interface
from deploycc.templates import fill

_HEADER = """\
/* Working memory that handles of several networks share: of any packages that use libdeploycc_rt, whichever
 * of them made it.  `bytes` is the largest @N@_memory_bytes of the handles to come. */
struct dcc_arena;
@N@_API @N@_status @N@_arena_create(size_t bytes, struct dcc_arena **arena);

/* NULL is fine.  @N@_ERROR_BUSY, and nothing is freed, as long as a handle made in it is not destroyed. */
@N@_API @N@_status @N@_arena_destroy(struct dcc_arena *arena);

/* As @N@_create, with the arena as working memory (options->memory must be NULL).  While one handle made
 * in it runs, a run of another one returns @N@_ERROR_BUSY at once and has no effect: let them take turns. */
@N@_API @N@_status @N@_create_in(const @N@_options *options, struct dcc_arena *arena, @N@_handle **handle);

"""

_SOURCE = """
@N@_status @N@_arena_create(size_t bytes, struct dcc_arena **arena) {
    return (@N@_status)dcc_arena_create(bytes, arena);
}

@N@_status @N@_arena_destroy(struct dcc_arena *arena) {
    return (@N@_status)dcc_arena_destroy(arena);
}

@N@_status @N@_create_in(const @N@_options *options, struct dcc_arena *arena, @N@_handle **handle) {
    dcc_handle *made = NULL;
    @N@_status status = (@N@_status)dcc_create_in(&model, (const dcc_options *)(const void *)options, arena,
                                                  handle == NULL ? NULL : &made);
    if (handle != NULL) {
        *handle = (@N@_handle *)(void *)made;
    }
    return status;
}
"""

_CLASS = """\
/// Working memory that models of several networks share (@N@_arena_create); outlives them.
class Arena {
public:
    explicit Arena(::std::size_t bytes) {
        const @N@_status status = @N@_arena_create(bytes, &arena_);
        if (status != @N@_OK) {
            fail(status, ::std::string("@N@: arena: ") + @N@_status_text(status));
        }
    }

    Arena(const Arena &) = delete;
    Arena &operator=(const Arena &) = delete;
    Arena(Arena &&other) noexcept : arena_(::std::exchange(other.arena_, nullptr)) {}
    Arena &operator=(Arena &&other) noexcept {
        ::std::swap(arena_, other.arena_);
        return *this;
    }
    ~Arena() { (void)@N@_arena_destroy(arena_); }

    /// For Options::arena of any package with the shared runtime; stays owned by this object.
    ::dcc_arena *get() const noexcept { return arena_; }

private:
    ::dcc_arena *arena_ = nullptr;
};

"""

_OPTION = """\
    /// Working memory shared with other models (Arena::get); nullptr: memory of its own.  They run by turns.
    ::dcc_arena *arena = nullptr;
"""


def header(interface: Interface) -> str:
    """For ``NAME.h``; empty for a package with a runtime of its own, as the others are."""
    return _filled(_HEADER, interface)


def source(interface: Interface) -> str:
    """For the end of the model definition."""
    return _filled(_SOURCE, interface)


def arena_class(interface: Interface) -> str:
    """The class ``Arena`` of ``NAME.hpp``."""
    return _filled(_CLASS, interface)


def option(interface: Interface) -> str:
    """The member of ``Options``."""
    return _filled(_OPTION, interface)


def create(interface: Interface) -> str:
    """How ``Model`` makes its handle."""
    plain = f"{interface.name}_create(&c_options, &handle_)"
    if not interface.arena:
        return plain
    inside = f"{interface.name}_create_in(&c_options, options.arena, &handle_)"
    indent = " " * 12
    return f"options.arena == nullptr\n{indent}? {plain}\n{indent}: {inside}"


def _filled(template: str, interface: Interface) -> str:
    return fill(template, {"N": interface.name}) if interface.arena else ""
