"""Rewrites that more than one stage applies: simplify to every graph it lowers, fix to the nodes lint names.

A function of an editor and a node rewrites that node and says whether it did; one of an editor alone goes
over the graph and returns how many places it changed.
"""
