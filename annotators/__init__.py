"""Who labels, how much people disagree, and what networks predict of it."""
