"""A package, so that tests/packaging does not stand in for the installed module packaging."""
