"""Adapters of the ``Transport`` port, and the only room that imports libp2p.

``memory`` is the transport of tests and small simulations. ``libp2p_transport`` is the real one;
it builds on ``host`` (sockets, noise, yamux), ``gossip`` (queues and verdicts), ``streams``
(request and reply) and ``hardening`` (named fixes of py-libp2p, pinned to one version).
Importing this package imports none of them: libp2p alone takes a second.
"""
