"""Synthetic data: sets that are generated on any machine, without a download."""
