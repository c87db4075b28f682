"""Plan, run and commit batches exactly once; the only place that knows Ray Data."""
