"""Adapters of the ``Chain`` port, one room per kind of chain."""
