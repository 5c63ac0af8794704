"""Packages for several shapes, several networks with one arena, and pipelines built in one go."""
