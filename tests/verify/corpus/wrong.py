"""Wrong backward passes as people write them, and the right ones that they were made from.

Every family is one function with a right derivation and a list of mistakes in it. ``WRONG`` must all be found, and
called by one of their kinds; ``RIGHT`` (name, make) must not be accused.
"""

from . import (
    wrong_attention,
    wrong_convolution,
    wrong_dense,
    wrong_elementwise,
    wrong_indexing,
    wrong_losses,
    wrong_norms,
    wrong_recurrent,
    wrong_structure,
    wrong_system,
)

FAMILIES = (
    *wrong_dense.FAMILIES,
    *wrong_losses.FAMILIES,
    *wrong_norms.FAMILIES,
    *wrong_attention.FAMILIES,
    *wrong_convolution.FAMILIES,
    *wrong_indexing.FAMILIES,
    *wrong_elementwise.FAMILIES,
    *wrong_recurrent.FAMILIES,
    *wrong_system.FAMILIES,
    *wrong_structure.FAMILIES,
)

WRONG = tuple(wrong for family in FAMILIES for wrong in family.wrong())
RIGHT = tuple(family.right for family in FAMILIES)
_OF_STRUCTURE = {family.name for family in wrong_structure.FAMILIES}
STRUCTURE = tuple(wrong for wrong in WRONG if wrong.name.partition("/")[0] in _OF_STRUCTURE)
"""Those that only one hypothesis each explains."""
