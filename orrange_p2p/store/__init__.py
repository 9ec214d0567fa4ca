"""Adapters of the ``Store`` port.

``sqlite`` keeps one file per node, through ``sqlite_file``, which needs no trio. ``memory`` forgets
with the process. ``guard`` is the rule that both enforce: no key signs twice.
"""
