"""Thin deterministic wrappers over the cryptographic libraries. No state, no randomness, no keys on disk."""
