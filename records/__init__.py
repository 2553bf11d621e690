"""What a run leaves on disk: the run directory, its ledger, reviews and score tables; files are whole or absent."""
