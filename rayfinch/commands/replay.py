"""`rayfinch replay`: send packets from files to a Kafka topic."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated

import typer


def replay(
    paths: Annotated[
        list[Path], typer.Argument(help="Packets: files, folders and tarballs, in any mixture.")
    ],
    topic: Annotated[str, typer.Option(help="The topic to send to; made when it does not exist.")],
    bootstrap: Annotated[str, typer.Option(help="Where Kafka listens.")] = "127.0.0.1:9092",
    rate: Annotated[float | None, typer.Option(help="Packets a second. Default: as fast as can be.")] = None,
    repeat: Annotated[int | None, typer.Option(help="How many times to send everything.", min=1)] = None,
    count: Annotated[
        int | None, typer.Option(help="How many packets to send, beginning again at the end.", min=1)
    ] = None,
    fresh_ids: Annotated[
        bool,
        typer.Option(
            "--fresh-ids", help="Give each repetition alert and object ids of its own, and later times."
        ),
    ] = False,
    first: Annotated[
        int,
        typer.Option(
            help="With --fresh-ids: number of the first repetition; another one gives other ids.", min=1
        ),
    ] = 1,
    days: Annotated[
        float, typer.Option(help="With --fresh-ids: repetition k is k times so many days later.")
    ] = 1.0,
    partitions: Annotated[int, typer.Option(help="Partitions of the topic, when it is made.", min=1)] = 4,
    schemas: Annotated[
        Path | None,
        typer.Option(
            help="Folder of ID.avsc, for LSST packets as they travel.", exists=True, file_okay=False
        ),
    ] = None,
    kafka: Annotated[
        list[str] | None,
        typer.Option(metavar="KEY=VALUE", help="A setting of librdkafka; may be given often."),
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print the result as JSON.")] = False,
) -> None:
    """Send packets from files to a Kafka topic, as a survey would.

    Keys are object ids; Kafka's time is the time of sending. Ends when Kafka has everything.

    Example: rayfinch replay ztf_public_20181128.tar.gz --topic ztf_20181128_programid1 --rate 50
    """
    from itertools import chain

    from broker.packets.files import NoPackets, read_packets
    from rayfinch.progress import progress_bar
    from rayfinch.replay import Sent, messages
    from rayfinch.replay import replay as send

    if repeat and count:
        raise typer.BadParameter("give --repeat or --count, not both")
    if rate is not None and not rate > 0:
        raise typer.BadParameter(f"--rate is {rate:g}; it must be above 0")
    settings = dict(_setting(text) for text in kafka or [])
    stream = messages(
        (packet for _, packet in read_packets(paths)),
        schemas=schemas,
        fresh_ids=fresh_ids,
        repeat=repeat or 1,
        count=count,
        first=first,
        days=days,
    )
    with progress_bar(f"to {topic}", count) as show:

        def shown(sent: Sent) -> None:
            show(sent.messages)

        try:
            # One packet before anything is done to Kafka: without packets no topic is made.
            stream = chain([next(stream)], stream)
            sent = send(
                stream, bootstrap, topic, rate=rate, kafka=settings, partitions=partitions, progress=shown
            )
        except NoPackets as error:
            raise typer.BadParameter(str(error), param_hint="PATHS") from error
    per_s = sent.messages / sent.seconds if sent.seconds else 0.0
    if as_json:
        typer.echo(json.dumps({**vars(sent), "topic": topic, "messages_per_s": round(per_s, 1)}))
    else:
        odd = f"; {sent.unreadable} of them cannot be read and went as they are" if sent.unreadable else ""
        size = f"{sent.bytes / 1e6:.1f} MB"
        typer.echo(
            f"{sent.messages} packets ({size}) sent to {topic} in {sent.seconds:.1f} s, {per_s:.0f}/s{odd}"
        )


def _setting(text: str) -> tuple[str, str]:
    key, equals, value = text.partition("=")
    if not equals or not key:
        raise typer.BadParameter(f"--kafka {text!r} is not KEY=VALUE")
    return key.strip(), value.strip()
