"""A driver's tie to Ray: one whose raylet or GCS is gone ends, instead of waiting for an answer for ever.

Ray itself gives up on a lost GCS after a minute; until then calls just do not return. What has started the
driver (a Ray job's retries, systemd) starts it again, and it goes on where it was.
"""

from __future__ import annotations

import logging
import os
import socket
import threading
import time

import ray

log = logging.getLogger("rayfinch.stream")

PATIENCE_S = 5.0  # a head that is restarted on the same state is back sooner; what it costs is one restart
LOOK_S = 0.5


def end_with_ray(patience_s: float = PATIENCE_S) -> None:
    """From now on end this process with status 1 once its raylet or the GCS refuses connections for so long.

    Call it after `ray.init`; after `ray.shutdown` it lets go.
    """
    mine = ray.get_runtime_context().get_node_id()
    node = next(n for n in ray.nodes() if n["NodeID"] == mine)
    host, _, port = ray.get_runtime_context().gcs_address.rpartition(":")
    places = {
        "raylet": (node["NodeManagerAddress"], int(node["NodeManagerPort"])),
        "GCS": (host, int(port)),
    }
    threading.Thread(target=_watch, args=(places, patience_s), daemon=True, name="lifeline").start()


def _watch(places: dict[str, tuple[str, int]], patience_s: float) -> None:
    seen = dict.fromkeys(places, time.monotonic())
    while ray.is_initialized():
        for what, place in places.items():
            if _answers(place):
                seen[what] = time.monotonic()
            elif (silent := time.monotonic() - seen[what]) > patience_s and ray.is_initialized():
                log.critical(
                    "Ray's %s at %s:%d is gone for %.0f s: this driver ends; start it again when Ray is back",
                    *(what, *place, silent),
                )
                logging.shutdown()
                os._exit(1)  # whatever else runs here waits for Ray, and would for ever
        time.sleep(LOOK_S)


def _answers(place: tuple[str, int]) -> bool:
    try:
        socket.create_connection(place, timeout=2).close()
    except OSError:
        return False
    return True
