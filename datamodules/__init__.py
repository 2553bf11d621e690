"""What is labelled: the pool, its ledger, the units and the data sets."""
