"""The tuner: searches schedules and knobs for the operators of a network by measuring them."""
