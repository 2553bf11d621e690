"""What is learned: networks, losses, metrics and the Lightning modules that hold them."""
