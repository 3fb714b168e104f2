"""The API's services: the verbs of every kind, driven by the table of kinds, and those of Pods alone."""
