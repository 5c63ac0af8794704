"""What is known, in words: ``deploycc explain`` and the generated pages of ``docs/``."""
