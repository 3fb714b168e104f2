"""Talking to containerd: a client over its native gRPC API, its events, images and leases."""
