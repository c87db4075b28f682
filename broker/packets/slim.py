"""A datum without its stamps: they are four fifths of it, and nobody who decodes the rest needs them.

The stamps are found in the datum by how a gzip or FITS file begins and by the length that Avro writes in
front. For the decoder each is replaced by a token that no packet can guess: where a token turns up among the
decoded cutouts, the bytes at its place were that stamp; if one does not turn up, the guess was wrong and the
datum is decoded whole. Half the time of decoding is saved.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from broker.packets.container import long
from broker.packets.survey import Datum, PacketError

_GZIP, _FITS = b"\x1f\x8b\x08", b"SIMPLE  ="
_TOKEN = 8  # bytes
_MOST = 8  # stamps in a datum
_SHORTEST = 64  # bytes of anything that could be an image
_PREFIX = 32  # bytes of a stamp to look for: gzip's header and the first of its data, or a FITS card


@dataclass(frozen=True)
class Slims:
    """Data without their stamps.

    decodable: with tokens in their places; packets: without; spans: start and end of each in turn.
    """

    data: Sequence[Datum]
    tokens: Sequence[bytes]
    decodable: list[bytes]
    packets: list[bytes]
    spans: list[tuple[int, ...]]


def tokens() -> list[bytes]:
    """Tokens for the first, second, ... stamp of a datum, new in each process and call."""
    secret = os.urandom(_TOKEN - 1)
    return [secret + bytes([k]) for k in range(_MOST)]


def slim(data: Sequence[Datum]) -> Slims:
    """Take out of each datum what looks like its stamps."""
    signs = tokens()
    slims = Slims(data, signs, [], [], [])
    for datum in data:
        decodable, packet, spans = _slim(datum, signs)
        slims.decodable.append(decodable)
        slims.packets.append(packet)
        slims.spans.append(spans)
    return slims


def _slim(datum: Datum, tokens: Sequence[bytes]) -> tuple[bytes, bytes, tuple[int, ...]]:
    packet, start, end = datum.packet, datum.start, datum.end
    size = long(_TOKEN)
    decodable: list[bytes] = []
    kept: list[bytes] = []
    spans: tuple[int, ...] = ()
    magic = _GZIP
    at = last = start
    while len(spans) < 2 * _MOST:
        at = packet.find(magic, at, end)
        if at < 0:
            if spans or magic is _FITS:
                break
            magic, at = _FITS, start
            continue
        length, width = _length_before(packet, at, last)
        if not _SHORTEST <= length <= end - at:
            at += 1
            continue
        decodable += (packet[last : at - width], size, tokens[len(spans) // 2])
        kept.append(packet[last:at])
        spans += (at - start, at - start + length)
        at = last = at + length
    tail = packet[last:end]
    return b"".join([*decodable, tail]), b"".join([*kept, tail]), spans


def _length_before(packet: bytes, at: int, first: int) -> tuple[int, int]:
    """The Avro length that ends at `at`, and in how many bytes; -1 where there is none.

    Its last byte is below 128, those before it are not; what stands in front of it (the end of a name, the
    number of a union's branch) is below 128 again.
    """
    begin = at - 1
    if begin < first or packet[begin] > 0x7F:
        return -1, 0
    number = packet[begin]
    while begin > first and packet[begin - 1] > 0x7F and at - begin < 4:
        begin -= 1
        number = number << 7 | packet[begin] & 0x7F
    return number >> 1, at - begin


def put_back(slims: Slims, columns: Sequence[list[bytes | None]]) -> np.ndarray:
    """Exchange, in place, the tokens in the three decoded columns of cutouts for the stamps they stand for.

    Return the cuts: (data, 3) int32. Raises PacketError if a token is not there.
    """
    which = {token: 2 * k for k, token in enumerate(slims.tokens)}
    cuts = np.full((len(slims.data), len(columns)), -1, np.int32)
    for row, (datum, spans) in enumerate(zip(slims.data, slims.spans, strict=True)):
        left = len(spans)
        for j, column in enumerate(columns):
            value = column[row]
            k = which.get(value) if value is not None else None
            if k is not None:
                column[row] = datum.packet[datum.start + spans[k] : datum.start + spans[k + 1]]
                cuts[row, j] = spans[k]
                left -= 2
        if left:
            raise PacketError("what looks like a stamp is none")
    return cuts


def cut_out(body: bytes, stamps: Sequence[bytes | None]) -> tuple[bytes, list[int]]:
    """Cut known stamps' bytes out of a datum; return the rest, and where in it each began (-1: not cut)."""
    cuts = [-1] * len(stamps)
    taken: list[tuple[int, int]] = []
    for i, stamp in enumerate(stamps):
        if stamp:
            at = _find(body, stamp, taken)
            if at >= 0:
                cuts[i] = at
                taken.append((at, at + len(stamp)))
    pieces, last = [], 0
    for start, end in sorted(taken):
        pieces.append(body[last:start])
        last = end
    pieces.append(body[last:])
    return b"".join(pieces), cuts


def _find(body: bytes, stamp: bytes, taken: Sequence[tuple[int, int]]) -> int:
    """Where the stamp's bytes are, clear of those taken. To look for a short prefix is ten times faster."""
    prefix = stamp[:_PREFIX]
    at = body.find(prefix)
    while at >= 0:
        end = at + len(stamp)
        if body.startswith(stamp, at) and all(end <= a or at >= b for a, b in taken):
            return at
        at = body.find(prefix, at + 1)
    return -1
