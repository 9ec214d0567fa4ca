"""Thin deterministic wrappers over the cryptographic libraries: no state, no randomness."""
