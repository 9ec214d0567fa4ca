"""The local API: ``server`` answers on a Unix socket with the methods the daemon gives it."""
