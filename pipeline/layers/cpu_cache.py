"""How much to work on at a time on a CPU: what fits a core's cache."""

CACHE_BYTES = 2**20
"""What is worked on at a time on a CPU: about a processor core's second-level cache."""


def examples_in_cache(examples: int, bytes_each: int) -> int:
    """How many examples to work on at a time: what fits, and divides them evenly unless that is far below what fits.

    An even share needs no copy of the examples that are left over.
    """
    most = min(max(2, CACHE_BYTES // max(bytes_each, 1)), examples)
    even = next(size for size in range(most, 0, -1) if examples % size == 0)
    return even if 2 * even >= most else most
