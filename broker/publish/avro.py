"""The few Avro encodings that what we append to a datum needs (Avro 1.11, "Binary encoding")."""

from __future__ import annotations

import struct

NULL, SOME = b"\x00", b"\x02"  # the branches of a union ["null", x]
END = b"\x00"  # of an array's blocks

_double = struct.Struct("<d").pack


def long(n: int) -> bytes:
    """An int or long: zigzag, then 7 bits a byte, lowest first."""
    n = (n << 1) ^ (n >> 63)
    if n < 0x80:
        return bytes((n,))
    out = bytearray()
    while n >= 0x80:
        out.append(n & 0x7F | 0x80)
        n >>= 7
    out.append(n)
    return bytes(out)


def string(text: str) -> bytes:
    """A string: its length in bytes, then UTF-8."""
    data = text.encode()
    return long(len(data)) + data


def double(x: float) -> bytes:
    return _double(x)


def optional_double(x: float | None) -> bytes:
    """A ["null", "double"]."""
    return NULL if x is None else SOME + _double(x)


def optional_string(text: str | None) -> bytes:
    """A ["null", "string"]."""
    return NULL if text is None else SOME + string(text)


def optional_long(n: int | None) -> bytes:
    """A ["null", "long"]."""
    return NULL if n is None else SOME + long(n)
