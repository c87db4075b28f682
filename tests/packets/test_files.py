"""Packets in files, folders and tarballs, in any mixture."""

from __future__ import annotations

import io
import tarfile
from pathlib import Path

import pytest

from broker.packets.files import NoPackets, read_packets


def tarball(path: Path, **members: bytes) -> Path:
    with tarfile.open(path, "w:gz") as tar:
        for name, content in members.items():
            info = tarfile.TarInfo(name.replace("__", "/").replace("_", "."))
            info.size = len(content)
            tar.addfile(info, io.BytesIO(content))
    return path


def test_files_folders_and_tarballs(tmp_path):
    (tmp_path / "night" / "deep").mkdir(parents=True)
    (tmp_path / "night" / "b.avro").write_bytes(b"b")
    (tmp_path / "night" / "a.wire").write_bytes(b"a")
    (tmp_path / "night" / "notes.txt").write_bytes(b"no packet")
    (tmp_path / "night" / "900.avsc").write_bytes(b"{}")
    (tmp_path / "night" / "deep" / "c.avro").write_bytes(b"c")
    tarball(tmp_path / "night" / "d.tar.gz", sub__d1_avro=b"d1", readme_md=b"-", d2_wire=b"d2")
    (tmp_path / "single").write_bytes(b"single")
    found = [
        (Path(name).name, packet) for name, packet in read_packets([tmp_path / "night", tmp_path / "single"])
    ]
    assert found == [
        ("a.wire", b"a"),
        ("b.avro", b"b"),
        ("d1.avro", b"d1"),
        ("d2.wire", b"d2"),
        ("c.avro", b"c"),
        ("single", b"single"),
    ]


def test_a_packet_in_a_tarball_is_named_by_both(tmp_path):
    path = tarball(tmp_path / "t.tgz", x_avro=b"x")
    assert list(read_packets([path])) == [(f"{path}/x.avro", b"x")]


def test_the_real_tarballs(shared):
    assert len(list(read_packets([shared / "data" / "lsst"]))) == 283


@pytest.mark.parametrize("name", ["nothing", "empty", "damaged.tar.gz", "only.tar.gz"])
def test_a_path_without_packets_is_told(tmp_path, name):
    (tmp_path / "empty").mkdir()
    (tmp_path / "damaged.tar.gz").write_bytes(b"\x1f\x8b\x08 no tarball")
    tarball(tmp_path / "only.tar.gz", readme_md=b"-")
    with pytest.raises(NoPackets, match=name):
        list(read_packets([tmp_path / name]))
