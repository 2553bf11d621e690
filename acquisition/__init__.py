"""How uncertain is this unit, and which units do we take? Torch and numpy only."""
