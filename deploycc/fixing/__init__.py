"""The fixing stage: rewrites by name, applied to the nodes that lint names, checked on the model itself.

One record (`Fix`) a rewrite, in ``deploycc/fixing/rewrites``; ``fixes`` finds them all.  ``repair`` applies
them until nothing is left to do.
"""

from deploycc.fixing.catalogue import fix_named, fixes
from deploycc.fixing.record import Fix, Safety

__all__ = ["Fix", "Safety", "fix_named", "fixes"]
