"""Fresh identities: a packet again and again, with new ids and later times, otherwise byte for byte.

A repetition k gives every int64 id a new one of 60 hashed bits (the same old id the same new one, so that
alerts of one object stay together, and its history names them), every object name a new name, and adds k
times a number of days to its times. It is deterministic, and fast: a packet is walked once, and each
repetition only joins its pieces (rayfinch.marks).
"""

from __future__ import annotations

import re
import struct
from dataclasses import dataclass, field

from rayfinch.marks import Frame, Framer, UnreadablePacket, read_varint, varint

_MASK = (1 << 64) - 1
_ZTF_NAME = re.compile(r"ZTF\d\d[a-z]{7}")
_ZTF_NAMES = 26**7
_DOUBLE = struct.Struct("<d")


@dataclass(frozen=True)
class Message:
    """What goes to Kafka: the packet, and its object's id as the key (None where it cannot be read)."""

    key: bytes | None
    value: bytes


@dataclass
class Names:
    """The object names met so far, numbered; two of them never get the same fresh name in the same replay."""

    first: int
    numbers: dict[bytes, int] = field(default_factory=dict)

    def number(self, name: bytes) -> int:
        return self.numbers.setdefault(name, len(self.numbers))

    def fresh(self, name: bytes, repetition: int) -> bytes:
        """The name in `repetition` (>= `first`): in ZTF's format, with the same year, when it has that.

        All names must have been met before the second repetition begins.
        """
        text = name.decode()
        if not _ZTF_NAME.fullmatch(text):
            return f"{text}-{repetition}".encode()
        serial = (repetition - self.first) * len(self.numbers) * (repetition > self.first) + self.number(name)
        # A bijection of the numbers below 26^7 (both factors are coprime to it), so that names look like
        # ZTF's and replays that begin at other repetitions have other names.
        serial = (serial * 3_141_592_653 + self.first * 2_718_281_831) % _ZTF_NAMES
        letters = bytearray()
        for _ in range(7):
            serial, letter = divmod(serial, 26)
            letters.append(97 + letter)
        return name[:5] + bytes(letters)


def fresh_id(old: int, repetition: int) -> int:
    """Another id for `old`: 60 bits hashed (splitmix64) on top of 2^60; what is not positive stays (no id).

    Of 10^7 of them, two are equal with a probability of 4e-5.
    """
    if old <= 0:
        return old
    x = (old * 0x9E3779B97F4A7C15 + repetition * 0xD1342543DE82EF95) & _MASK
    x = ((x ^ (x >> 30)) * 0xBF58476D1CE4E5B9) & _MASK
    x = ((x ^ (x >> 27)) * 0x94D049BB133111EB) & _MASK
    return 1 << 60 | (x ^ (x >> 31)) >> 4


class Original:
    """One packet, taken apart once."""

    def __init__(self, packet: bytes, framer: Framer, names: Names) -> None:
        self.packet = packet
        self.names = names
        self.key: bytes | None = None
        self.unreadable: str | None = None
        self._frame: Frame | None = None
        try:
            self._take_apart(framer.frame(packet))
        except UnreadablePacket as error:
            self.unreadable = str(error)

    def message(self) -> Message:
        return Message(self.key, self.packet)

    def fresh(self, repetition: int, days: float) -> Message:
        """The packet with the identities of `repetition`, its times later by repetition * `days`.

        One that cannot be read stays as it is.
        """
        if self._frame is None:
            return self.message()
        pieces, later = self._pieces.copy(), repetition * days
        ids = {old: fresh_id(old, repetition) for old in self._ids.values()}
        encoded = {old: varint(new) for old, new in ids.items()}
        for i, old in self._ids.items():
            pieces[i] = encoded[old]
        for i, time in self._times.items():
            pieces[i] = _DOUBLE.pack(time + later)
        key = self.key
        for i, name in self._objects.items():
            new = self.names.fresh(name, repetition)
            pieces[i] = varint(len(new)) + new
            if name == key:
                key = new
        if self._key_id is not None:
            key = b"%d" % ids[self._key_id]
        return Message(key, self._frame.with_datum(b"".join(pieces)))

    def _take_apart(self, frame: Frame) -> None:
        self._frame = frame
        self._pieces: list[bytes] = []
        self._ids: dict[int, int] = {}
        self._times: dict[int, float] = {}
        self._objects: dict[int, bytes] = {}
        self._key_id: int | None = None
        keys: dict[str, int] = {}
        taken = 0
        for mark in frame.marks:
            self._pieces += [frame.datum[taken : mark.start], frame.datum[mark.start : mark.end]]
            taken, i = mark.end, len(self._pieces) - 1
            if mark.kind == "time":
                self._times[i] = _DOUBLE.unpack(self._pieces[i])[0]
            elif mark.kind == "object":
                name = self._pieces[i][read_varint(self._pieces[i], 0)[1] :]
                self.names.number(name)
                self._objects[i] = name
                self.key = self.key or name
            else:
                self._ids[i] = value = read_varint(self._pieces[i], 0)[0]
                if value > 0:
                    keys.setdefault(mark.field, value)
        self._pieces.append(frame.datum[taken:])
        # LSST: the diaObject, or the solar-system object of a source that has none.
        if self.key is None and (key := keys.get("diaObjectId") or keys.get("ssObjectId")):
            self._key_id, self.key = key, b"%d" % key
