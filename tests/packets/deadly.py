"""A survey whose packets kill or hang the decoder: what native code does to a process, done for certain."""

from __future__ import annotations

import os
import signal
import time
from dataclasses import dataclass

import polars as pl

from broker.packets.survey import WriterSchema
from broker.packets.ztf import Ztf


@dataclass(frozen=True)
class Deadly(Ztf):
    """ZTF, but that some alerts kill their process with `signal_`, or sleep for a minute."""

    killers: frozenset[int] = frozenset()
    sleepers: frozenset[int] = frozenset()
    signal_: int = signal.SIGSEGV

    def alerts(self, frame: pl.DataFrame, schema: WriterSchema) -> pl.DataFrame:
        ids = set(frame["candid"].to_list())
        if ids & self.killers:
            os.kill(os.getpid(), self.signal_)
        if ids & self.sleepers:
            time.sleep(60)
        return super().alerts(frame, schema)
