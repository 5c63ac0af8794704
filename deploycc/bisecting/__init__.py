"""Which step of a package computes something else than the model: parts of ``deploycc.bisect``."""
