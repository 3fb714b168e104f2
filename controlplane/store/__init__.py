"""The state: the client of etcd, and the watch cache that lists and watches are served from."""
