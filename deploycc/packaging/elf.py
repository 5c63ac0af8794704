"""A small ELF reader: what the checks after linking and the archive writer need, no more.

Field layouts: System V gABI, chapters 4 and 5; symbol versions: "Linux Standard Base Core
Generic 5.0", chapter 10.7.  Any malformed file raises ``ElfError``, never another exception.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass, field

MACHINES = {3: "i386", 40: "arm", 62: "x86-64", 183: "aarch64", 243: "riscv"}

ET_REL, ET_DYN = 1, 3
SHT_SYMTAB, SHT_RELA, SHT_REL, SHT_DYNSYM, SHT_GROUP = 2, 4, 9, 11, 17
SHN_UNDEF, SHN_ABS, SHN_COMMON = 0, 0xFFF1, 0xFFF2
STB_LOCAL, STB_GLOBAL, STB_WEAK = 0, 1, 2
STV_HIDDEN = 2
_SHT_VERDEF, _SHT_VERNEED, _SHT_VERSYM, _SHT_NOBITS = 0x6FFFFFFD, 0x6FFFFFFE, 0x6FFFFFFF, 8
_PT_DYNAMIC, _PT_GNU_STACK, _PF_X = 2, 0x6474E551, 1
_DT_NEEDED, _DT_SONAME, _DT_TEXTREL, _DT_FLAGS, _DT_RUNPATH, _DT_RPATH = 1, 14, 22, 30, 29, 15
_DF_TEXTREL = 4


class ElfError(ValueError):
    """The bytes are not an ELF file that can be read."""


@dataclass(frozen=True)
class Section:
    """One section header; ``offset`` and ``size`` in the file."""

    name: str
    type: int
    flags: int
    offset: int
    size: int
    link: int
    info: int
    entry_size: int


@dataclass(frozen=True)
class Symbol:
    """One symbol; ``version`` is its needed or defined version, ``library`` who is to define it."""

    name: str
    binding: int
    type: int
    visibility: int
    section: int
    size: int
    version: str = ""
    library: str = ""

    @property
    def defined(self) -> bool:
        """Whether this file defines it."""
        return self.section != SHN_UNDEF


@dataclass(frozen=True)
class Elf:
    """A parsed file.  ``symbols`` is ``.symtab``, ``dynamic_symbols`` ``.dynsym``."""

    bits: int
    little_endian: bool
    type: int
    machine: str
    flags: int
    sections: tuple[Section, ...]
    symbols: tuple[Symbol, ...] = ()
    dynamic_symbols: tuple[Symbol, ...] = ()
    needed: tuple[str, ...] = ()
    soname: str = ""
    runpath: str = ""
    text_relocations: bool = False
    executable_stack: bool = False
    versions_needed: tuple[tuple[str, str], ...] = field(default=())
    """``(library, version)`` pairs, for instance ``("libc.so.6", "GLIBC_2.17")``."""


class _Reader:
    def __init__(self, data: bytes) -> None:
        if data[:4] != b"\x7fELF" or len(data) < 52:
            raise ElfError("no ELF header")
        if data[4] not in (1, 2) or data[5] not in (1, 2):
            raise ElfError("unknown ELF class or byte order")
        self.data = data
        self.wide = data[4] == 2
        self.order = "<" if data[5] == 1 else ">"

    def unpack(self, layout: str, offset: int) -> tuple[int, ...]:
        try:
            return struct.unpack_from(self.order + layout, self.data, offset)
        except (struct.error, OverflowError) as error:
            raise ElfError(f"truncated at offset {offset}") from error

    def string(self, table: Section, offset: int) -> str:
        if not 0 <= offset < max(1, table.size):
            raise ElfError("a name lies outside its string table")
        start = table.offset + offset
        end = self.data.find(b"\0", start, table.offset + table.size)
        if end < 0:
            raise ElfError("an unterminated name")
        return self.data[start:end].decode("utf-8", "surrogateescape")

    def entries(self, section: Section, size: int) -> range:
        if section.offset + section.size > len(self.data):
            raise ElfError(f"section {section.name} lies outside the file")
        return range(section.offset, section.offset + section.size - size + 1, size)


def _sections(reader: _Reader) -> tuple[Section, ...]:
    if reader.wide:
        (shoff,) = reader.unpack("Q", 40)
        entry, count, names = reader.unpack("HHH", 58)
    else:
        (shoff,) = reader.unpack("I", 32)
        entry, count, names = reader.unpack("HHH", 46)
    layout = "IIQQQQIIQQ" if reader.wide else "IIIIIIIIII"
    if shoff == 0:
        return ()
    first = reader.unpack(layout, shoff)
    count = count or first[5]
    names = first[6] if names == 0xFFFF else names
    rows = [reader.unpack(layout, shoff + index * entry) for index in range(count)]
    if names >= len(rows):
        raise ElfError("no section names")
    table = Section("", rows[names][1], 0, rows[names][4], rows[names][5], 0, 0, 0)
    return tuple(
        Section(reader.string(table, row[0]), row[1], row[2], row[4], row[5], row[6], row[7], row[9])
        for row in rows
    )


def _symbols(reader: _Reader, sections: tuple[Section, ...], table: Section) -> list[Symbol]:
    if table.link >= len(sections):
        raise ElfError("a symbol table without names")
    strings, result = sections[table.link], []
    for at in reader.entries(table, 24 if reader.wide else 16):
        if reader.wide:
            name, info, other, section, _, size = reader.unpack("IBBHQQ", at)
        else:
            name, _, size, info, other, section = reader.unpack("IIIBBH", at)
        text = reader.string(strings, name)
        result.append(Symbol(text, info >> 4, info & 15, other & 3, section, size))
    return result


def _versions(
    reader: _Reader, sections: tuple[Section, ...]
) -> tuple[dict[int, tuple[str, str]], list[tuple[str, str]]]:
    by_index: dict[int, tuple[str, str]] = {}
    needed: list[tuple[str, str]] = []
    for section in sections:
        if section.type not in (_SHT_VERNEED, _SHT_VERDEF) or section.link >= len(sections):
            continue
        strings, at = sections[section.link], section.offset
        for _ in range(section.info):
            if section.type == _SHT_VERNEED:
                _, count, file, aux, following = reader.unpack("HHIII", at)
                library = reader.string(strings, file)
                entry = at + aux
                for _ in range(count):
                    _, _, index, name, step = reader.unpack("IHHII", entry)
                    version = reader.string(strings, name)
                    by_index[index & 0x7FFF] = (library, version)
                    needed.append((library, version))
                    if step == 0:
                        break
                    entry += step
            else:
                _, flags, index, _, _, aux, following = reader.unpack("HHHHIII", at)
                name, _ = reader.unpack("II", at + aux)
                if not flags & 1:
                    by_index[index & 0x7FFF] = ("", reader.string(strings, name))
            if following == 0:
                break
            at += following
    return by_index, needed


def _with_versions(
    reader: _Reader,
    sections: tuple[Section, ...],
    symbols: list[Symbol],
    by_index: dict[int, tuple[str, str]],
) -> list[Symbol]:
    table = next((s for s in sections if s.type == _SHT_VERSYM), None)
    if table is None:
        return symbols
    result = []
    for symbol, at in zip(symbols, reader.entries(table, 2), strict=False):
        (index,) = reader.unpack("H", at)
        library, version = by_index.get(index & 0x7FFF, ("", ""))
        result.append(
            Symbol(
                symbol.name,
                symbol.binding,
                symbol.type,
                symbol.visibility,
                symbol.section,
                symbol.size,
                version,
                library,
            )
        )
    return result


def _dynamic(reader: _Reader, sections: tuple[Section, ...]) -> dict[str, list[int]]:
    section = next((s for s in sections if s.name == ".dynamic"), None)
    found: dict[str, list[int]] = {}
    if section is None:
        return found
    width = 16 if reader.wide else 8
    for at in reader.entries(section, width):
        tag, value = reader.unpack("QQ" if reader.wide else "II", at)
        if tag == 0:
            break
        found.setdefault(str(tag), []).append(value)
    return found


def parse(data: bytes) -> Elf:
    """Read a relocatable object, library or program.  Raises ``ElfError`` for anything else."""
    reader = _Reader(data)
    file_type, machine = reader.unpack("HH", 16)
    (flags,) = reader.unpack("I", 48 if reader.wide else 36)
    sections = _sections(reader)
    symbols: list[Symbol] = []
    dynamic_symbols: list[Symbol] = []
    by_index, versions_needed = _versions(reader, sections)
    for section in sections:
        if section.type == SHT_SYMTAB:
            symbols = _symbols(reader, sections, section)
        elif section.type == SHT_DYNSYM:
            dynamic_symbols = _with_versions(reader, sections, _symbols(reader, sections, section), by_index)
    dynamic = _dynamic(reader, sections)
    strings = next(
        (sections[s.link] for s in sections if s.name == ".dynamic" and s.link < len(sections)), None
    )

    def texts(*tags: int) -> tuple[str, ...]:
        if strings is None:
            return ()
        return tuple(reader.string(strings, value) for tag in tags for value in dynamic.get(str(tag), []))

    return Elf(
        bits=64 if reader.wide else 32,
        little_endian=reader.order == "<",
        type=file_type,
        machine=MACHINES.get(machine, f"machine {machine}"),
        flags=flags,
        sections=sections,
        symbols=tuple(symbols),
        dynamic_symbols=tuple(dynamic_symbols),
        needed=texts(_DT_NEEDED),
        soname="".join(texts(_DT_SONAME)),
        runpath=":".join(texts(_DT_RUNPATH, _DT_RPATH)),
        text_relocations=str(_DT_TEXTREL) in dynamic
        or any(value & _DF_TEXTREL for value in dynamic.get(str(_DT_FLAGS), [])),
        executable_stack=_executable_stack(reader, file_type, sections),
        versions_needed=tuple(sorted(set(versions_needed))),
    )


def _executable_stack(reader: _Reader, file_type: int, sections: tuple[Section, ...]) -> bool:
    if file_type == ET_REL:
        # An object without the note makes most linkers assume that it needs an executable stack.
        note = next((s for s in sections if s.name == ".note.GNU-stack"), None)
        return note is not None and bool(note.flags & 4)
    if reader.wide:
        (phoff,) = reader.unpack("Q", 32)
        entry, count = reader.unpack("HH", 54)
    else:
        (phoff,) = reader.unpack("I", 28)
        entry, count = reader.unpack("HH", 42)
    for index in range(count):
        at = phoff + index * entry
        kind, *_ = reader.unpack("I", at)
        (flags,) = reader.unpack("I", at + (4 if reader.wide else 24))
        if kind == _PT_GNU_STACK:
            return bool(flags & _PF_X)
    return True
