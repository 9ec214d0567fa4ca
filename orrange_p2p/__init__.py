"""Orrange P2P: one order book, computed by every node for itself."""

__version__ = "0.1.0"
