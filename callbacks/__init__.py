"""When does it happen: hooks that call the rooms above and compute nothing themselves."""
