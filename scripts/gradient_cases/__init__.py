"""Layers and losses for the gradient checks, at small and large sizes, and the canary of the compiler.

``case`` is one layer with an input, ``layers`` the table of all layers and losses, ``large`` the same at sizes of real
training, and ``canary`` holds programs that a broken compiler gets wrong.
"""
