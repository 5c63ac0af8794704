"""Faults planted in the compiler, for the search that has to find them (``deploycc verify --bisect``)."""
