"""The size of a CPU core's cache, and how many examples fit into it."""

CACHE_BYTES = 2**20
"""How much data to process at a time on a CPU: about the size of a core's second-level cache."""


def examples_in_cache(examples: int, bytes_each: int) -> int:
    """How many examples to process at a time, of ``bytes_each``.

    The largest number that fits and divides ``examples``, so that none are left over to be copied; if that is less than
    half of what fits, as many as fit.
    """
    most = min(max(2, CACHE_BYTES // max(bytes_each, 1)), examples)
    even = next(size for size in range(most, 0, -1) if examples % size == 0)
    return even if 2 * even >= most else most
