"""A function's program: traced by JAX, inspected, interpreted operation by operation, and run with changes."""
