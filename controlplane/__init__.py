"""The control plane: a typed, watchable API on etcd, the scheduler and the controllers."""
