"""Fetching, measuring and the tables."""
