"""Free TCP ports on 127.0.0.1, and waiting until something answers on one."""

from __future__ import annotations

import socket

from rayfinch.bench.kafka import free_ports


def free_port(run: int = 1) -> int:
    """A port such that it and the `run - 1` after it are free."""
    return free_ports(run)


def answers(port: int) -> bool:
    """Whether something accepts connections on `port`."""
    with socket.socket() as s:
        s.settimeout(0.5)
        return s.connect_ex(("127.0.0.1", port)) == 0
