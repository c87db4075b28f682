"""Simulated alerts: ZTF packets of a made-up sky whose truth is known.

`packets(n, seed)` makes them. From the sky to the bytes: visits, lightcurves, sky, artefacts, targets,
measure, columns, alerts, schema. LSST's, of the same targets: lsst.packets (lsst_images, wire).
"""

from training.simulation.alerts import Simulated, packets

__all__ = ["Simulated", "packets"]
