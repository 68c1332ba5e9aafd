"""Placing an object file in this process without LLVM.

A kernel kept on disk could be linked by LLVM's ORC engine, but loading LLVM costs 26 to 40 ms, more than everything
else in a first call. The objects made here use a handful of ELF relocations, so linking them takes a page of code.
Whatever is not known here raises ``Unsupported``, and ORC links the object instead.

Relocations: System V ABI, AMD64 supplement, table 4.9 (S symbol, A addend, P place, G entry of the address table).
"""

from __future__ import annotations

import ctypes
import functools
import mmap
import platform
import struct
import sys
from typing import NamedTuple

_ALLOC, _WRITE, _EXECUTE = 2, 1, 4  # section flags: WRITE 1, ALLOC 2, EXECINSTR 4
_PROGBITS, _SYMTAB, _RELA, _NOBITS, _UNWIND = 1, 2, 4, 8, 0x70000001
_UNDEFINED, _ABSOLUTE, _RESERVED = 0, 0xFFF1, 0xFF00
_ABS64, _PC32, _GOTPCREL, _PLT32, _PC64, _GOTPCRELX, _REX_GOTPCRELX = 1, 2, 9, 4, 24, 41, 42
_PROT_READ, _PROT_WRITE, _PROT_EXECUTE = 1, 2, 4
_LARGEST = 1 << 28
_STUB = 16  # bytes of a jump through an address: ff 25 02 00 00 00, two of padding, then the address


class Unsupported(Exception):  # noqa: N818 (a question to ORC, not an error)
    """This object or this system is for ORC to handle."""


class Refused(RuntimeError):  # noqa: N818 (as above)
    """The system does not let memory be made executable."""


class _Section(NamedTuple):
    kind: int
    flags: int
    offset: int
    size: int
    link: int
    info: int
    align: int


class _Symbol(NamedTuple):
    name: str
    section: int
    value: int


class _Object(NamedTuple):
    code: bytes
    sections: list[_Section]
    symbols: list[_Symbol]


class _Image(NamedTuple):
    """Where everything of an object goes, relative to one block of pages."""

    places: dict[int, int]  # section -> offset
    spans: list[tuple[int, int, int]]  # offset, size, protection: whole pages
    stubs: dict[str, int]  # symbol of this process -> offset of its stub; its address is 8 bytes in
    size: int


def place(code: bytes, wanted: tuple[str, ...]) -> dict[str, int]:
    """Copy an object into executable memory and resolve it.

    Args:
        code: a relocatable ELF object for x86-64.
        wanted: symbols whose addresses are asked for.

    Returns:
        The address of each. The memory is never released.

    Raises:
        Unsupported: another format or system, or a relocation not known here.
        Refused: memory may not be made executable.
    """
    if sys.platform != "linux" or platform.machine() != "x86_64":
        raise Unsupported("not Linux on x86-64")
    try:
        parsed = _parse(code)
        image = _layout(parsed)
        base = _reserve(image.size)
        _fill(parsed, image, base)
        addresses = _resolve(parsed, image, base)
        for section in parsed.sections:
            if section.kind == _RELA and section.info in image.places:
                _relocate(parsed, section, addresses, image, base)
    except (struct.error, IndexError, UnicodeDecodeError, ValueError, OverflowError) as error:
        raise Unsupported(f"not an object as made here: {error}") from error
    _protect(image, base)
    found = {symbol.name: address for symbol, address in zip(parsed.symbols, addresses, strict=True)}
    missing = [name for name in wanted if name not in found]
    if missing:
        raise Unsupported(f"no symbol {missing[0]}")
    return {name: found[name] for name in wanted}


def _parse(code: bytes) -> _Object:
    """Section headers and the symbol table."""
    if code[:6] != b"\x7fELF\x02\x01" or struct.unpack_from("<HH", code, 16) != (1, 62):
        raise Unsupported("not a relocatable ELF object for x86-64")
    table = struct.unpack_from("<Q", code, 40)[0]
    entry, count = struct.unpack_from("<HH", code, 58)
    sections = []
    for index in range(count):
        _, kind, flags, _, offset, size, link, info, align, _ = struct.unpack_from(
            "<IIQQQQIIQQ", code, table + index * entry
        )
        if kind != _NOBITS and offset + size > len(code):
            raise Unsupported("a section reaches past the end")
        sections.append(_Section(kind, flags, offset, size, link, info, max(1, align)))
    tables = [section for section in sections if section.kind == _SYMTAB]
    if len(tables) != 1:
        raise Unsupported("not one symbol table")
    names = sections[tables[0].link].offset
    symbols = []
    for at in range(tables[0].offset, tables[0].offset + tables[0].size, 24):
        name, _, _, section, value, _ = struct.unpack_from("<IBBHQQ", code, at)
        start = names + name
        symbols.append(_Symbol(code[start : code.index(b"\0", start)].decode(), section, value))
    return _Object(code, sections, symbols)


def _layout(parsed: _Object) -> _Image:
    """Code, constants and variables, each on pages of their own."""
    places: dict[int, int] = {}
    spans = []
    stubs: dict[str, int] = {}
    end = 0
    for flag, protection in (
        (_EXECUTE, _PROT_READ | _PROT_EXECUTE),
        (0, _PROT_READ),
        (_WRITE, _PROT_READ | _PROT_WRITE),
    ):
        start = end
        for index, section in enumerate(parsed.sections):
            kept = section.flags & _ALLOC and section.kind in (_PROGBITS, _NOBITS) and section.size
            if not kept or section.flags & (_EXECUTE | _WRITE) != flag:
                if section.flags & _ALLOC and section.kind not in (_PROGBITS, _NOBITS, _UNWIND):
                    raise Unsupported(f"a section of type {section.kind}")
                continue
            end = -(-end // section.align) * section.align
            places[index] = end
            end += section.size
        if flag == _EXECUTE:
            for symbol in parsed.symbols:
                if symbol.section == _UNDEFINED and symbol.name:
                    end = -(-end // _STUB) * _STUB
                    stubs[symbol.name] = end
                    end += _STUB
        if end > start:
            end = -(-end // mmap.PAGESIZE) * mmap.PAGESIZE
            spans.append((start, end - start, protection))
    if any(section.flags & _WRITE and section.flags & _EXECUTE for section in parsed.sections):
        raise Unsupported("a section both written and executed")
    if end > _LARGEST:
        raise Unsupported(f"{end} bytes")
    return _Image(places, spans, stubs, end)


def _fill(parsed: _Object, image: _Image, base: int) -> None:
    """Copy the sections, and write the stubs that reach functions anywhere in the address space."""
    for index, offset in image.places.items():
        section = parsed.sections[index]
        if section.kind == _PROGBITS:
            data = parsed.code[section.offset : section.offset + section.size]
            ctypes.memmove(base + offset, data, section.size)
    for name, offset in image.stubs.items():
        ctypes.memmove(base + offset, b"\xff\x25\x02\0\0\0\xcc\xcc" + struct.pack("<Q", _external(name)), _STUB)


def _resolve(parsed: _Object, image: _Image, base: int) -> list[int]:
    """The address of each symbol; of one outside the object, its stub's."""
    addresses = []
    for symbol in parsed.symbols:
        if symbol.section == _UNDEFINED:
            addresses.append(base + image.stubs[symbol.name] if symbol.name else 0)
        elif symbol.section == _ABSOLUTE:
            addresses.append(symbol.value)
        elif symbol.section >= _RESERVED:
            raise Unsupported("a common symbol")
        else:
            addresses.append(base + image.places.get(symbol.section, 0) + symbol.value)
    return addresses


def _relocate(parsed: _Object, table: _Section, addresses: list[int], image: _Image, base: int) -> None:
    """Apply one section's relocations."""
    start, size = base + image.places[table.info], parsed.sections[table.info].size
    for at in range(table.offset, table.offset + table.size, 24):
        offset, info, addend = struct.unpack_from("<QQq", parsed.code, at)
        number, kind = info >> 32, info & 0xFFFFFFFF
        symbol, where = parsed.symbols[number], start + offset
        if offset + 8 > size and (offset + 4 > size or kind in (_ABS64, _PC64)):
            raise Unsupported("a relocation outside its section")
        outside = symbol.section == _UNDEFINED
        if not outside and symbol.section != _ABSOLUTE and symbol.section not in image.places:
            raise Unsupported("a reference to a section that is not kept")
        target = addresses[number] + addend
        if kind == _ABS64 and not outside:
            ctypes.memmove(where, struct.pack("<Q", target), 8)
        elif kind == _PC64 and not outside:
            ctypes.memmove(where, struct.pack("<q", target - where), 8)
        elif kind == _PLT32 or (kind == _PC32 and not outside):
            ctypes.memmove(where, struct.pack("<i", target - where), 4)
        elif kind in (_GOTPCREL, _GOTPCRELX, _REX_GOTPCRELX) and outside:
            ctypes.memmove(where, struct.pack("<i", target + 8 - where), 4)  # the address inside the stub
        else:
            raise Unsupported(f"relocation {kind} to {symbol.name or 'a section'}")


@functools.cache
def _process() -> ctypes.CDLL:
    library = ctypes.CDLL(None, use_errno=True)
    library.mmap.restype = ctypes.c_void_p
    library.mmap.argtypes = (ctypes.c_void_p, ctypes.c_size_t, *(ctypes.c_int,) * 3, ctypes.c_long)
    library.mprotect.argtypes = (ctypes.c_void_p, ctypes.c_size_t, ctypes.c_int)
    return library


def _external(name: str) -> int:
    """Address of a function of this process (the C library's)."""
    try:
        return ctypes.cast(getattr(_process(), name), ctypes.c_void_p).value or 0
    except AttributeError as error:
        raise Unsupported(f"this process has no {name}") from error


def _reserve(size: int) -> int:
    """Fresh pages, writable for now."""
    flags = mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS
    base = _process().mmap(None, max(size, 1), _PROT_READ | _PROT_WRITE, flags, -1, 0)
    if base is None or base == ctypes.c_void_p(-1).value:
        raise Unsupported("no memory for the code")
    return int(base)


def _protect(image: _Image, base: int) -> None:
    """Never writable and executable at once."""
    for offset, size, protection in image.spans:
        if _process().mprotect(base + offset, size, protection):
            raise Refused("the system does not allow memory to be made executable")
