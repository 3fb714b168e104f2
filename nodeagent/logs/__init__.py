"""Container logs on a node: the pump that writes them, and the reader.

The pump (`podwire-logs`) is a process of its own that outlives the agent, so that no application blocks on its output
while the agent is away. It must start at once and stay small: nothing here imports more than the standard library,
except `reader`, which runs in the agent.
"""
