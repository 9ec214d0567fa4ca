"""The ``Leg`` port on Bitcoin. Read in the order of a lock's life:

``leg``       the port's adapter: lock, claim, refund, and what runs behind them
``bonds``     coins locked for a reputation, and taken home
``wallet``    keys, addresses and coins
``ledger``    what the chain shows of the scripts that are watched
``follower``  keeps the ledger at the head, reorganisations and the mempool included
``rpc``       bitcoind's JSON-RPC; ``backend`` says what is needed of it
``script``, ``coins``, ``fees``   pure
``transactions``   the only importer of bitcoinlib
"""
