"""Results with as many rows as the data says, in memory for the most there can be.

``NonZero``, ``Compress``, ``Unique`` and ``NonMaxSuppression`` put out as many rows as they find.  A package
plans its memory when it is built, so such a tensor has an extent of the most rows that there can be (or that
the user declares), its true number of rows is one more result, and what is computed of it is computed for
all rows.  That is right as long as each row depends on the same row only (``row_wise``); the rows beyond the
true number are then rubbish that nothing looks at, and zero again in the network's outputs.
"""

from deploycc.counting.extents import count_rows
from deploycc.counting.padding import padded, with_numbers
from deploycc.counting.static_form import COUNT, MOST, with_counts

__all__ = ["COUNT", "MOST", "count_rows", "padded", "with_counts", "with_numbers"]
