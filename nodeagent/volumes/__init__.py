"""Volumes of pods: folders and mounts on the node, and where a container wants to see them."""
