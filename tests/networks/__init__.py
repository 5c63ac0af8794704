"""Trained networks on the machines they are built for."""
