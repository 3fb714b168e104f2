"""The controllers: each makes what is there come closer to what is asked for, a key at a time."""
