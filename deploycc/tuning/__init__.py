"""The tuner: searches schedules and knobs for the operators of a network by measuring them.

What flows, in order: ``Operator`` (deploycc/operators.py) with the number of its uses -> ``TaskState``
(search.py), its space of ``Candidate``s and what is known of them -> ``Request`` to a worker (pool.py) ->
``Job``, a compiled candidate, to a ``Runner`` (runner.py) -> ``Measurement`` -> ``Record``
(deploycc/records.py) in the database, which a build reads.
"""

from deploycc.tuning.tuner import Tuned, tune

__all__ = ["Tuned", "tune"]
