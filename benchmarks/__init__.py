"""Measurements of deploycc on real trained networks, and where those networks come from."""
