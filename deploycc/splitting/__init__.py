"""Cuts a network into parts that run one after another in different places (see ``docs/split.md``)."""
