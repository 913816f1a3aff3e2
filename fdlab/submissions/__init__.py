"""Runs packed for others, and everything that they claim checked.

`packing` writes and opens one, `verify` goes through its claims.
"""
