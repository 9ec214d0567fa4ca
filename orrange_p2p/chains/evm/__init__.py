"""EVM chains over JSON-RPC. Read in the order of a question and its answer:

``chain``     the port's adapter: the head, reading, and what runs in the background
``leg``       swaps: locks in a contract, seen and ended; ``timelock`` is that contract, pure
``intents``   transactions that are to happen once: nonces, replacement, finality
``follower``  logs, with rewinds
``endpoints`` several endpoints as one: failover, and an alarm when they contradict each other
``websocket``, ``http``   one endpoint each
``answers``   the only place where bytes of an endpoint become our types
``fees``, ``transactions``   pure
"""
