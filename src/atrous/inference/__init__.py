"""The cost of running a network."""
