"""Packages timed beside one another and beside other engines; ``deploycc/bench.py`` is the front.

``schedule`` lets the contestants take turns, ``contestants`` are the packages and engines that take part,
each in a process of its own, ``statistics`` says what can be told from the times, ``baseline`` keeps them for
another day.
"""
