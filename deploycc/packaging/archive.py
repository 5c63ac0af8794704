"""Static libraries that two networks of one app can both link.

A partial link makes kernels, runtime and weights one object; ``localise`` then turns every
global symbol that is not the network's own into a local one, and ``archive`` wraps the object
in a deterministic ``ar`` file (no times, no owners), with a symbol index.
"""

from __future__ import annotations

import struct
from collections.abc import Collection

from deploycc.packaging.elf import (
    SHN_UNDEF,
    SHT_GROUP,
    SHT_REL,
    SHT_RELA,
    SHT_SYMTAB,
    STB_LOCAL,
    ElfError,
    parse,
)

_SHT_SYMTAB_SHNDX = 18
_SHT_LLVM_ADDRSIG = 0x6FFF4C03


def localise(data: bytes, keep: Collection[str]) -> bytes:
    """A copy of a little-endian relocatable object whose defined symbols are local, but for ``keep``.

    The symbol table is reordered in place (locals come first in ELF) and every reference to a
    symbol by number is renumbered, so no offset in the file moves.  Raises ``ElfError`` for an
    object this cannot do justice to.
    """
    elf = parse(data)
    if not elf.little_endian:
        raise ElfError("big-endian objects are not supported")
    wide = elf.bits == 64
    tables = [index for index, section in enumerate(elf.sections) if section.type == SHT_SYMTAB]
    if len(tables) != 1:
        raise ElfError("an object needs exactly one symbol table")
    if any(section.type == _SHT_SYMTAB_SHNDX for section in elf.sections):
        raise ElfError("objects of more than 65279 sections are not supported")
    table_index = tables[0]
    table = elf.sections[table_index]
    entry = 24 if wide else 16
    rows = [bytearray(data[at : at + entry]) for at in range(table.offset, table.offset + table.size, entry)]
    info_at = 4 if wide else 12
    for row, symbol in zip(rows, elf.symbols, strict=True):
        if symbol.section != SHN_UNDEF and symbol.binding != STB_LOCAL and symbol.name not in keep:
            row[info_at] = (STB_LOCAL << 4) | (row[info_at] & 15)
            row[info_at + 1] = 0
    local = [index for index, row in enumerate(rows) if row[info_at] >> 4 == STB_LOCAL]
    others = [index for index, row in enumerate(rows) if row[info_at] >> 4 != STB_LOCAL]
    order = local + others
    renumbered = {old: new for new, old in enumerate(order)}
    result = bytearray(data)
    for new, old in enumerate(order):
        at = table.offset + new * entry
        result[at : at + entry] = rows[old]
    header_at, header_size = _section_headers(data, wide)

    def set_info(section_index: int, value: int) -> None:
        struct.pack_into("<I", result, header_at + section_index * header_size + (44 if wide else 28), value)

    set_info(table_index, len(local))
    for index, section in enumerate(elf.sections):
        if section.type in (SHT_REL, SHT_RELA) and section.link == table_index:
            _renumber(result, section.offset, section.size, section.entry_size, wide, renumbered)
        elif section.type == SHT_GROUP and section.link == table_index:
            set_info(index, renumbered[section.info])
            # The group's signature is local now: it must not be merged with another network's.
            struct.pack_into("<I", result, section.offset, 0)
        elif section.type == _SHT_LLVM_ADDRSIG and section.link == table_index:
            # Symbol numbers in ULEB128 cannot be renumbered in place; the section is a hint for
            # identical code folding only, and SHT_NULL takes it out.
            struct.pack_into("<I", result, header_at + index * header_size + 4, 0)
    return bytes(result)


def _section_headers(data: bytes, wide: bool) -> tuple[int, int]:
    offset: int
    size: int
    if wide:
        (offset,) = struct.unpack_from("<Q", data, 40)
        (size,) = struct.unpack_from("<H", data, 58)
    else:
        (offset,) = struct.unpack_from("<I", data, 32)
        (size,) = struct.unpack_from("<H", data, 46)
    return offset, size


def _renumber(
    result: bytearray, offset: int, size: int, entry: int, wide: bool, renumbered: dict[int, int]
) -> None:
    if entry == 0:
        raise ElfError("a relocation section without an entry size")
    for at in range(offset, offset + size, entry):
        if wide:
            kind, symbol = struct.unpack_from("<II", result, at + 8)
            struct.pack_into("<II", result, at + 8, kind, renumbered[symbol])
        else:
            (info,) = struct.unpack_from("<I", result, at + 4)
            struct.pack_into("<I", result, at + 4, renumbered[info >> 8] << 8 | info & 0xFF)


def archive(member: str, data: bytes, symbols: Collection[str]) -> bytes:
    """An ``ar`` file in GNU format of one member, with an index of ``symbols`` (sorted).

    ``member`` is a file name of at most 15 characters.
    """
    names = b"".join(symbol.encode() + b"\0" for symbol in sorted(symbols))
    index_size = 4 + 4 * len(symbols) + len(names)
    padding = index_size % 2
    member_at = 8 + 60 + index_size + padding
    index = (
        struct.pack(f">I{len(symbols)}I", len(symbols), *([member_at] * len(symbols)))
        + names
        + b"\0" * padding
    )

    def head(name: str, size: int) -> bytes:
        return f"{name:<16}{0:<12}{0:<6}{0:<6}{'644':<8}{size:<10}`\n".encode()

    if len(member) > 15:
        raise ValueError("member names of more than 15 characters need a name table")
    body = data + b"\n" * (len(data) % 2)
    return b"!<arch>\n" + head("/", len(index)) + index + head(f"{member}/", len(data)) + body
