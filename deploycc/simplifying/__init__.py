"""Folds, cleans and rewrites a checked model, and checks that it still computes the same."""

from deploycc.simplifying.pipeline import clean, simplify

__all__ = ["clean", "simplify"]
