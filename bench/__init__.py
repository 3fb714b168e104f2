"""Benchmarks: `python -m bench NAME` prints a JSON line a measure, with the floor measured in the same run."""

import os

# Read once, when gRPC is imported. It would warn of every process that is started beside it, though none is a fork that
# goes on in Python.
os.environ.setdefault("GRPC_VERBOSITY", "ERROR")
