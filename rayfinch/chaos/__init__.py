"""Chaos: a stream under fire. Kills what it stands on, one after another, and judges what it has kept."""
