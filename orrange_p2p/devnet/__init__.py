"""Chains on this machine for development, demo and tests. What lies on them is worth nothing."""
