"""Damaged input for the readers of the user's data.

``readers`` is the table of all readers with a small valid input each, ``mutations`` damages bytes, and ``attempt``
reads a damaged input and judges what the reader did.
"""
