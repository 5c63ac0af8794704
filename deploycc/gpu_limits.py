"""What of a network's loops a GPU runs, by their length; scheduling and lint go by the same numbers."""

from __future__ import annotations

MOST_STEPS = 2048
"""Steps of a recurrent layer beyond which its launches (one each, some 2.5 us) are too long a list."""

LONGEST_SCAN = 4096
"""Elements of a running sum that are each added up anew, side by side: on average half as many additions.
Beyond, that takes longer than to copy them to the processor and back."""
