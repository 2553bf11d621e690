"""Stops the command line at its file events, starts it again, and compares what is left with an uninterrupted run."""
