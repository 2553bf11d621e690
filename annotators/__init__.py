"""Who labels, how much they disagree, and who should get what."""
