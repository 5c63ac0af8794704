"""A process that compiles one program with NVRTC and ends; run by ``nvrtc.compile_alone`` as a script.

NVRTC orders some of its work by the addresses of its data, so that one program comes out in several forms,
all of them right.  Here addresses are the same each time: nothing but this script and NVRTC is loaded, hashes
are not seeded, and the kernel is asked not to choose addresses at random (``personality``), which holds from
the next ``exec`` on.  Where that is not allowed the code may differ from build to build.

    python nvrtc_child.py LIBRARY OPTION... <source >answer

The answer has the status, the log, machine code and PTX, each after its length in eight bytes.
"""

import ctypes
import os
import sys

ADDR_NO_RANDOMIZE = 0x0040000
"""``personality(2)``."""
_FIXED = "DEPLOYCC_ADDRESSES_FIXED"


def fix_addresses() -> None:
    """Begin anew with addresses that are the same each time, or go on where that is not allowed."""
    if _FIXED in os.environ:
        return
    os.environ[_FIXED] = "1"
    if ctypes.CDLL(None).personality(ADDR_NO_RANDOMIZE) != -1:
        os.execv(sys.executable, [sys.executable, *sys.orig_argv[1:]])  # noqa: S606 (itself)


def main() -> None:
    """Compile standard input."""
    fix_addresses()
    nvrtc = ctypes.CDLL(sys.argv[1])
    options = [word.encode() for word in sys.argv[2:]]
    program, size = ctypes.c_void_p(), ctypes.c_size_t()
    source = sys.stdin.buffer.read()
    nvrtc.nvrtcCreateProgram(ctypes.byref(program), source, b"kernels.cu", 0, None, None)
    given = (ctypes.c_char_p * len(options))(*options)
    status = nvrtc.nvrtcCompileProgram(program, len(options), given)
    parts = [str(status).encode()]
    for what in ("ProgramLog", *(("CUBIN", "PTX") if status == 0 else ())):
        getattr(nvrtc, f"nvrtcGet{what}Size")(program, ctypes.byref(size))
        buffer = ctypes.create_string_buffer(size.value)
        getattr(nvrtc, f"nvrtcGet{what}")(program, buffer)
        parts.append(buffer.raw)
    for part in parts:
        sys.stdout.buffer.write(len(part).to_bytes(8, "little") + part)
    sys.stdout.buffer.flush()
    os._exit(0)  # nothing is left to be done, and NVRTC takes a while to end


if __name__ == "__main__":
    main()
