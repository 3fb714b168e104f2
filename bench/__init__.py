"""Benchmarks: `python -m bench NAME` prints a JSON line a measure, with the floor measured in the same run."""
