"""The packets that a benchmark sends, as often as it takes, and the alert ids that they will have."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import count as numbers
from pathlib import Path

from rayfinch.fresh import Message, fresh_id
from rayfinch.replay import messages


@dataclass(frozen=True)
class Sample:
    """Packets of one survey, each a different alert. `left_out`: how many were not, or did not decode."""

    survey: str
    packets: Sequence[bytes]
    alert_ids: Sequence[int]
    schemas: Path | None
    left_out: int = 0

    def messages(self, count: int) -> Iterator[tuple[int, Message]]:
        """`count` different alerts with their ids: the packets in order, each time with fresh identities."""
        fresh = messages(self.packets, schemas=self.schemas, fresh_ids=True, count=count)
        n = len(self.packets)
        ids = (fresh_id(self.alert_ids[i % n], 1 + i // n) for i in numbers())
        return zip(ids, fresh, strict=False)


def gathered(paths: Sequence[Path], schemas: Path | None, most: int) -> Sample:
    """The packets of `paths`; simulated ones, `most` but at most 1,000, where there are no paths.

    Raises NoPackets, PacketError.
    """
    if paths:
        from broker.packets.files import read_packets
        from rayfinch.demo import schemas_beside

        return sample(list(read_packets(paths)), schemas or schemas_beside(paths))
    from training.simulation import packets

    return sample([(str(i), s.packet) for i, s in enumerate(packets(min(most, 1000), 1))], None)


def sample(packets: Sequence[tuple[str, bytes]], schemas: Path | None) -> Sample:
    """What of named packets can be sent. Raises PacketError where they are of no survey, or of several."""
    from broker.packets.decode import decode
    from broker.packets.registry import Folder
    from broker.packets.survey import PacketError, survey
    from rayfinch.demo import by_survey

    found = by_survey(packets, schemas)
    if len(found) != 1:
        raise PacketError(
            f"these are packets of {len(found)} surveys ({', '.join(found)}): a stream reads one survey's"
        )
    [(name, of_survey)] = found.items()
    values = [value for _, value in of_survey]
    decoded = decode(survey(name), values, Folder(schemas) if schemas else None, cutouts=True)
    first: dict[int, int] = {}  # the same alert may come in two files
    for index, alert_id in zip(decoded.index, decoded.alerts["alert_id"].to_pylist(), strict=True):
        first.setdefault(alert_id, int(index))
    if not first:
        raise PacketError(f"none of these {len(values)} packets can be decoded")
    return Sample(
        name, [values[i] for i in first.values()], list(first), schemas, left_out=len(values) - len(first)
    )
