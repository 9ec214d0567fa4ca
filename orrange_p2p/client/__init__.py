"""Clients of a running node's local API: ``api`` under trio, ``plain`` without."""

from orrange_p2p.client.api import Client, connect

__all__ = ["Client", "connect"]
