"""A cluster of several nodes on one Linux machine: hosts as network namespaces, the real programs in each."""
