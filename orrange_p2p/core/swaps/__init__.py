"""From a bound trade to coins that changed hands: one table per kind of settlement.

``binding``  what settlement needs of a trade, taken from the epochs that made it
``atomic``   both legs in one transaction of an EVM chain (protocol/08-settlement.md)
``legs``     one leg of a swap, and what a chain shows of it
``schedule`` when what has to happen in a swap, at the latest
``htlc``     both legs, on two chains (protocol/09-swaps.md)
"""
