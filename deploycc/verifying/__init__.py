"""A package's outputs beside the reference's: inputs, tolerances, measures of an error, the report."""

from deploycc.verifying.numbers import difference

__all__ = ["difference"]
