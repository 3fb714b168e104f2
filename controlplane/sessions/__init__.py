"""The sessions of agents: their liveness, their statuses, and streams joined to those of clients."""
