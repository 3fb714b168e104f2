"""The node agent: runs the pods of one node through containerd, probes them, reports, and keeps the service proxy."""
