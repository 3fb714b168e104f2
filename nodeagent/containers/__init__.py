"""Containers: what they run with (pure), and creating, starting, stopping and removing them."""
