"""Free TCP ports on 127.0.0.1, and waiting until something answers on one."""

from __future__ import annotations

import random
import socket


def is_free(port: int) -> bool:
    """Whether nothing listens on `port` and we may bind it."""
    with socket.socket() as s:
        s.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            s.bind(("127.0.0.1", port))
        except OSError:
            return False
    return True


def free_port(run: int = 1) -> int:
    """A random port such that it and the `run - 1` after it are free. Below Linux' ephemeral range, so that
    no outgoing connection takes it while a server is being restarted on it."""
    for _ in range(1000):
        port = random.SystemRandom().randrange(15000, 32000)
        if all(is_free(port + i) for i in range(run)):
            return port
    raise RuntimeError("no free ports between 15000 and 32000")


def answers(port: int) -> bool:
    """Whether something accepts connections on `port`."""
    with socket.socket() as s:
        s.settimeout(0.5)
        return s.connect_ex(("127.0.0.1", port)) == 0
