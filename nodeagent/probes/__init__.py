"""Probes: the three results, the handlers that ask a container, and the schedule on which it is asked."""
