"""Planning: a lowered program becomes object code, a call list and a static memory layout."""

from deploycc.planning.chips import plan_chips
from deploycc.planning.planner import plan, plan_variants

__all__ = ["plan", "plan_chips", "plan_variants"]
