"""Real or bogus: the border is where one bogus alert in a hundred is left, and what it costs is counted."""

from __future__ import annotations

import numpy as np

from training.artefacts import border, kept, sifted

CLASSES = ("asteroid", "VS", "bogus")


def answers(bogus: np.ndarray) -> np.ndarray:
    """Probabilities of alerts that are bogus with these chances."""
    return np.column_stack([(1 - bogus) / 2, (1 - bogus) / 2, bogus])


def test_one_in_a_hundred_bogus_alerts_is_kept_and_what_is_missed_is_told_by_class() -> None:
    chance = np.concatenate([np.linspace(0.5, 0.999, 200), [0.1, 0.2, 0.9], [0.1, 0.51]])
    truth = np.array([2] * 200 + [0] * 3 + [1] * 2)
    found = sifted(truth, answers(chance), CLASSES)
    assert found is not None
    assert found["bogus_kept"] == 0.01
    assert found["real_missed"] == 0.4
    assert found["missed"] == {"asteroid": 0.3333, "VS": 0.5}
    assert kept(answers(chance), CLASSES, border(truth, answers(chance), CLASSES)).sum() == 2 + 3


def test_of_few_bogus_alerts_none_is_kept() -> None:
    truth = np.array([2, 2, 0])
    found = sifted(truth, answers(np.array([0.4, 0.9, 0.3])), CLASSES)
    assert found is not None
    assert (found["bogus_kept"], found["real_missed"]) == (0, 0)


def test_without_bogus_alerts_or_the_class_nothing_is_said() -> None:
    chance = answers(np.array([0.1, 0.2]))
    assert sifted(np.array([0, 1]), chance, CLASSES) is None
    assert sifted(np.array([0, 1]), chance, ("Ia", "II", "IIn")) is None
    assert sifted(np.array([2, 1]), chance * np.nan, CLASSES) is None
