"""Lint rules that a support table cannot express, one file each (see ``docs/new-rule.md``)."""
