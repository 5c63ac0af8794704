"""Which findings count: ``deploycc.toml``, ignores with their reasons, baselines."""
