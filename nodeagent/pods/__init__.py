"""Pods on this node: what each should do next (pure), and the workers that do it."""
