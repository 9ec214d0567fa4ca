"""Adapters of the ``Signer`` port: ``keyfile`` for a key on disk, ``memory`` for one from bytes,
``web3_keystore`` for one of another wallet."""
