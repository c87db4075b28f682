"""Data sets, training, evaluation and simulation."""
