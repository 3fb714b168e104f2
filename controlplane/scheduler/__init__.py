"""The scheduler: gives each pod that has no node the least loaded node that can run it."""
