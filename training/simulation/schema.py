"""The ZTF alert schema 4.02, written compactly (names, order and types of its fields), and packets of it."""

from __future__ import annotations

import hashlib
import json
import struct
from collections.abc import Callable
from typing import Any

VERSION = "4.02"

# Name and Avro type of each field; `?` may be null.
_IMAGE = (
    "jd:double fid:int pid:long diffmaglim:float? pdiffimfilename:string? programpi:string? "
    "programid:int candid:long isdiffpos:string tblid:long? nid:int? rcid:int? field:int? xpos:float? "
    "ypos:float? ra:double dec:double magpsf:float sigmapsf:float chipsf:float? magap:float? "
    "sigmagap:float? distnr:float? magnr:float? sigmagnr:float? chinr:float? sharpnr:float? sky:float? "
    "magdiff:float? fwhm:float? classtar:float? mindtoedge:float? magfromlim:float? seeratio:float? "
    "aimage:float? bimage:float? aimagerat:float? bimagerat:float? elong:float? nneg:int? nbad:int? "
    "rb:float? ssdistnr:float? ssmagnr:float? ssnamenr:string? sumrat:float? magapbig:float? "
    "sigmagapbig:float? ranr:double decnr:double "
)
_CANDIDATE = _IMAGE + (
    "sgmag1:float? srmag1:float? simag1:float? szmag1:float? sgscore1:float? distpsnr1:float? ndethist:int "
    "ncovhist:int jdstarthist:double? jdendhist:double? scorr:double? tooflag:int? objectidps1:long? "
    "objectidps2:long? sgmag2:float? srmag2:float? simag2:float? szmag2:float? sgscore2:float? "
    "distpsnr2:float? objectidps3:long? sgmag3:float? srmag3:float? simag3:float? szmag3:float? "
    "sgscore3:float? distpsnr3:float? nmtchps:int rfid:long jdstartref:double jdendref:double nframesref:int "
    "rbversion:string dsnrms:float? ssnrms:float? dsdiff:float? magzpsci:float? magzpsciunc:float? "
    "magzpscirms:float? nmatches:int clrcoeff:float? clrcounc:float? zpclrcov:float? zpmed:float? "
    "clrmed:float? clrrms:float? neargaia:float? neargaiabright:float? maggaia:float? maggaiabright:float? "
    "exptime:float? drb:float? drbversion:string"
)
_HISTORY = _IMAGE + (
    "scorr:double? magzpsci:float? magzpsciunc:float? magzpscirms:float? clrcoeff:float? clrcounc:float? "
    "rbversion:string"
)
# In a visit without a detection these are null too.
_NULL_WITHOUT_DETECTION = ("candid", "isdiffpos", "ra", "dec", "magpsf", "sigmapsf", "ranr", "decnr")
_FORCED = (
    "field:int? rcid:int? fid:int pid:long rfid:long sciinpseeing:float? scibckgnd:float? scisigpix:float? "
    "magzpsci:float? magzpsciunc:float? magzpscirms:float? clrcoeff:float? clrcounc:float? exptime:float? "
    "adpctdif1:float? adpctdif2:float? diffmaglim:float? programid:int jd:double forcediffimflux:float? "
    "forcediffimfluxunc:float? procstatus:string? distnr:float? ranr:double decnr:double magnr:float? "
    "sigmagnr:float? chinr:float? sharpnr:float?"
)


def _record(name: str, fields: str, also_null: tuple[str, ...] = ()) -> dict[str, Any]:
    return {
        "type": "record",
        "name": name,
        "version": VERSION,
        "fields": [_field(field, also_null) for field in fields.split()],
    }


def _field(text: str, also_null: tuple[str, ...]) -> dict[str, Any]:
    name, kind = text.split(":")
    if not (kind.endswith("?") or name in also_null):
        return {"name": name, "type": kind}
    return {"name": name, "type": ["null", kind.rstrip("?")], "default": None}


def _schema() -> dict[str, Any]:
    cutout = _record("ztf.alert.cutout", "fileName:string stampData:bytes")
    history = _record("ztf.alert.prv_candidate", _HISTORY, _NULL_WITHOUT_DETECTION)
    forced = _record("ztf.alert.fp_hist", _FORCED)

    def optional(name: str, kind: Any) -> dict[str, Any]:
        return {"name": name, "type": ["null", kind], "default": None}

    fields = _record("ztf.alert", "schemavsn:string publisher:string objectId:string candid:long")
    fields["fields"] += [
        {"name": "candidate", "type": _record("ztf.alert.candidate", _CANDIDATE)},
        optional("prv_candidates", {"type": "array", "items": history}),
        optional("fp_hists", {"type": "array", "items": forced}),
        optional("cutoutScience", cutout),
        optional("cutoutTemplate", "ztf.alert.cutout"),
        optional("cutoutDifference", "ztf.alert.cutout"),
    ]
    return fields


SCHEMA = _schema()
SCHEMA_JSON = json.dumps(SCHEMA, separators=(",", ":"))
# A container's sync marker is 16 arbitrary bytes; these make the same packet the same bytes.
SYNC = hashlib.md5(SCHEMA_JSON.encode(), usedforsecurity=False).digest()

CANDIDATE_FIELDS = tuple(f["name"] for f in SCHEMA["fields"][4]["type"]["fields"])
HISTORY_FIELDS = tuple(f.split(":")[0] for f in _HISTORY.split())
FORCED_FIELDS = tuple(f.split(":")[0] for f in _FORCED.split())


def container(alert: dict[str, Any]) -> bytes:
    """One alert as an Avro container: the same bytes for the same alert.

    Written here, and not by a library, as a packet has 2,500 nullable fields, on each of which fastavro tries
    the branches of the union: 2 ms a packet.
    """
    body: list[bytes] = []
    _ENCODE(alert, body)
    datum = b"".join(body)
    return b"".join((_HEAD, _long(1), _long(len(datum)), datum, SYNC))


Encode = Callable[[Any, list[bytes]], None]


def _long(value: int) -> bytes:
    value = (value << 1) ^ (value >> 63)
    out = bytearray()
    while value > 0x7F:
        out.append(value & 0x7F | 0x80)
        value >>= 7
    out.append(value)
    return bytes(out)


def _bytes(value: bytes) -> bytes:
    return _long(len(value)) + value


_PRIMITIVE: dict[str, Callable[[Any], bytes]] = {
    "int": _long,
    "long": _long,
    "float": struct.Struct("<f").pack,
    "double": struct.Struct("<d").pack,
    "string": lambda text: _bytes(text.encode()),
    "bytes": _bytes,
}


def _encoder(schema: Any, named: dict[str, Encode]) -> Encode:
    """How to append a value of `schema` (of the kinds that are used here) to the pieces of a datum."""
    if isinstance(schema, list):
        inner = _encoder(schema[1], named)

        def optional(value: Any, out: list[bytes]) -> None:
            if value is None:
                out.append(b"\0")
            else:
                out.append(b"\x02")
                inner(value, out)

        return optional
    if isinstance(schema, str):
        if schema in named:
            return named[schema]
        pack = _PRIMITIVE[schema]
        return lambda value, out: out.append(pack(value))
    if schema["type"] == "array":
        item = _encoder(schema["items"], named)

        def array(values: Any, out: list[bytes]) -> None:
            if values:
                out.append(_long(len(values)))
                for value in values:
                    item(value, out)
            out.append(b"\0")

        return array
    fields = [(f["name"], _encoder(f["type"], named)) for f in schema["fields"]]

    def record(value: Any, out: list[bytes]) -> None:
        for name, encode in fields:
            encode(value[name], out)

    named[schema["name"]] = record
    return record


_ENCODE = _encoder(SCHEMA, {})
_HEAD = b"".join(
    [
        *(b"Obj\x01", _long(2), _bytes(b"avro.schema"), _bytes(SCHEMA_JSON.encode())),
        *(_bytes(b"avro.codec"), _bytes(b"null"), b"\0", SYNC),
    ]
)
