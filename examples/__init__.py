"""Programs that use deploycc as its users do."""
