"""Numbers that Avro's varints may carry, and should not."""

from __future__ import annotations

EXTREMES = (0, -1, 1, 127, -(2**31), 2**31, 2**31 - 1, 2**32, 2**53 + 1, -(2**63), 2**63 - 1, 10**18)
LENGTHS = (0, -1, 1, 2**15, 2**24, 2**31 - 1, 2**31, 2**40, 2**62, -(2**63), 2**63 - 1)
# Varints that are none: of eleven bytes, of ten with bits too many, one that never ends.
OVERLONG = (b"\x80" * 10 + b"\0", b"\xff" * 9 + b"\x7f", b"\xff" * 64, b"\x80\x80\x80\0")
