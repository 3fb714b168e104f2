"""The CNI plugin (bridge, IPAM), the routes between nodes, and the runner for any CNI configuration list."""
