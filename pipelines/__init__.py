"""Many fits: the active-learning cycle."""
