"""`rayfinch packets check`: real packets pass, each bad one is named with its reason."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from typer.testing import CliRunner

from broker.packets import check as checking
from broker.packets.check import check
from rayfinch.commands.packets import app
from tests.packets import made

RUNNER = CliRunner()


def run(*arguments: str | Path) -> tuple[int, str, str]:
    result = RUNNER.invoke(app, ["check", *map(str, arguments)])
    return result.exit_code, result.stdout, result.stderr


@pytest.fixture
def night(tmp_path, ztf_packets, lsst_wire) -> Path:
    """A folder of 4 ZTF packets of 4 schemas and one LSST message."""
    for k in (0, 350, 500, 1140):
        (tmp_path / f"{k}.avro").write_bytes(ztf_packets[k][1])
    (tmp_path / "rubin.wire").write_bytes(lsst_wire[0][1])
    return tmp_path


def test_real_packets_of_both_surveys_pass(night, lsst_schemas):
    code, out, _ = run(night, "--schemas", lsst_schemas, "--json")
    report = json.loads(out)
    assert code == 0
    assert {k: report[k] for k in ("packets", "decoded", "mismatched", "unreadable")} == {
        "packets": 5,
        "decoded": 5,
        "mismatched": 0,
        "unreadable": 0,
    }
    assert report["surveys"] == {"lsst": 1, "ztf": 4}


def test_bad_packets_are_named_with_their_reasons(night, lsst_schemas):
    packet = (night / "0.avro").read_bytes()
    (night / "short.avro").write_bytes(packet[:30_000])
    (night / "cat.avro").write_bytes(
        made.container({"type": "record", "name": "cat", "fields": [{"name": "n", "type": "int"}]}, {"n": 1})
    )
    code, out, _ = run(night, "--json")
    report = json.loads(out)
    assert code == 1
    assert (report["packets"], report["decoded"], report["unreadable"]) == (7, 4, 3)
    reasons = {Path(name).name: why for name, why in report["reasons"].items()}
    assert "short" in reasons["short.avro"]
    assert "of no known survey" in reasons["cat.avro"]
    assert "--schemas" in reasons["rubin.wire"]


def test_for_people_it_prints_the_same(night, lsst_schemas):
    code, out, _ = run(night, "--schemas", lsst_schemas)
    assert code == 0
    assert "decoded  5" in out


@pytest.mark.parametrize("arguments", [["no-such-file.avro"], [".", "--schemas", "no-such-folder"]])
def test_what_cannot_be_read_is_one_sentence_and_exit_code_2(arguments):
    code, _, err = run(*arguments)
    assert code == 2
    assert err.startswith("rayfinch packets check: there is no")
    assert "Traceback" not in err


def test_help_has_an_example():
    assert "rayfinch packets check ztf_public" in RUNNER.invoke(app, ["check", "--help"]).stdout


def test_a_fast_path_that_is_wrong_is_found_out(ztf_packets, monkeypatch):
    """Were the fast path to misread one field, the check would say which."""
    true = checking.decode

    def misread(*arguments, **options):
        decoded = true(*arguments, **options)
        i = decoded.alerts.schema.get_field_index("ra")
        decoded.__dict__["alerts"] = decoded.alerts.set_column(i, "ra", [[1.5] * decoded.alerts.num_rows])
        return decoded

    monkeypatch.setattr(checking, "decode", misread)
    *_, report = check(ztf_packets[:2])
    assert list(report.mismatched.values()) == ["not alike: ra"] * 2


def test_everything_that_is_given_decodes_alike(shared, lsst_schemas, ztf_packets):
    """Every thirtieth of ZTF's packets and all kinds of LSST's; the whole is checked by the command."""
    from broker.packets.files import read_packets
    from broker.packets.registry import Folder

    packets = [*ztf_packets[::30], *read_packets([shared / "data" / "lsst" / "fake"])]
    *_, report = check(packets, Folder(lsst_schemas))
    assert report.decoded == report.packets == len(packets)
    assert report.ok
