"""Packets in files: single ones, folders of them, and tarballs as the ZTF public archive has them."""

from __future__ import annotations

import tarfile
from collections.abc import Iterable, Iterator
from pathlib import Path

EXTENSIONS = (".avro", ".wire")
TARBALLS = (".tar.gz", ".tgz", ".tar")


class NoPackets(ValueError):
    """A path has no packets, or cannot be read."""


def read_packets(paths: Iterable[str | Path]) -> Iterator[tuple[str, bytes]]:
    """Yield (name, bytes) of every packet in the files, folders (searched through) and tarballs given.

    In the order of the paths, folders by name, tarballs as they are packed; a packet in a tarball is called
    TARBALL/MEMBER. Packets are *.avro and *.wire; a file that is given by its own name may have any other.
    Raises NoPackets for a path that does not exist, is a damaged tarball, or holds none.
    """
    for path in map(Path, paths):
        found = False
        for name, packet in _read(path):
            found = True
            yield name, packet
        if not found:
            raise NoPackets(
                f"{path} holds no packets: no {' or '.join(EXTENSIONS)} files, nor tarballs of them"
            )


def _read(path: Path) -> Iterator[tuple[str, bytes]]:
    if path.is_dir():
        for file in sorted(path.rglob("*")):
            if file.is_file() and file.name.endswith(TARBALLS + EXTENSIONS):
                yield from _file(file)
    elif path.is_file():
        yield from _file(path)
    else:
        raise NoPackets(f"there is no file or folder {path}")


def _file(file: Path) -> Iterator[tuple[str, bytes]]:
    if not file.name.endswith(TARBALLS):
        yield str(file), file.read_bytes()
        return
    try:
        with tarfile.open(file, "r|*") as tar:
            for member in tar:
                if member.isfile() and member.name.endswith(EXTENSIONS):
                    stream = tar.extractfile(member)
                    if stream is not None:
                        yield f"{file}/{member.name}", stream.read()
    except (tarfile.TarError, EOFError, OSError) as error:
        raise NoPackets(f"the tarball {file} cannot be read: {error}") from error
