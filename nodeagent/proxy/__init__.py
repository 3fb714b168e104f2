"""The service proxy: services and endpoint slices become iptables rules on this node, applied as differences."""
