"""Data sets: their images, how one is read, and what their own annotations say."""
