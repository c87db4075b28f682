"""Simulated alerts: ZTF packets of a made-up sky whose truth is known.

`packets(n, seed)` makes them. From the sky to the bytes: visits, lightcurves, sky, artefacts, targets,
measure, columns, packets, schema.
"""

from training.simulation.packets import Simulated, packets

__all__ = ["Simulated", "packets"]
