"""Objects, offsets, batches and dead letters, in SQL."""
