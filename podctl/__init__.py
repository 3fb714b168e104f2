"""The command line client, on podwire.client alone."""
