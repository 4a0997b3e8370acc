"""Backhand: backprop by hand, proven against autodiff, and faster than it."""
