"""The upkeep of etcd: its history kept short, its files kept small, its alarms noticed and cleared.

etcd does none of this by itself: it grows with every change until its quota is reached, and then takes no writes.
"""
