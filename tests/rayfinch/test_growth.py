"""Early batches beside late ones."""

from __future__ import annotations

from collections import Counter

import pytest

from rayfinch.bench.driver import Batch
from rayfinch.bench.growth import EARLY, WINDOW, compared, enough
from rayfinch.bench.span import Mark


def test_a_stream_that_slows_down_is_seen():
    """2,000 alerts a batch: a batch a second at first, later one in two, with twice the CPU."""
    at, cpu, batches = 0.0, 0.0, []
    for n in range(100):
        slow = n >= 50
        at, cpu = at + (2 if slow else 1), cpu + (4 if slow else 2)
        counts = {"counts": {"alerts": 2000}, "stages_ms": {"publish": 200 if slow else 100}}
        batches.append(Batch(at, counts, Mark(at, Counter(workers=cpu), 0.0)))
    found = compared(batches, [(t, 1000.0 + t) for t in range(150)])
    assert found["alerts_per_s_early"] == pytest.approx(2000)
    assert found["alerts_per_s_late"] == pytest.approx(1000)
    assert found["late_over_early"] == pytest.approx(0.5)
    assert found["cpu_ms_per_alert_early"] == pytest.approx(1)
    assert found["cpu_ms_per_alert_late"] == pytest.approx(2)
    assert found["stages_ms_late"] == {"publish": 200}
    assert found["alerts_per_s_by_tenth"][0] == pytest.approx(2000)
    assert found["alerts_per_s_by_tenth"][-1] == pytest.approx(1000)
    assert found["pss_mb_by_tenth"] == sorted(found["pss_mb_by_tenth"])


def test_too_few_batches_are_refused_before_anything_runs():
    enough(EARLY + 2 * WINDOW)
    with pytest.raises(ValueError, match="too few"):
        enough(EARLY + 2 * WINDOW - 1)
