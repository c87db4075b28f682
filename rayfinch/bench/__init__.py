"""The benchmark: runs a stream as `rayfinch stream` does, measures it from outside, judges what it kept."""
