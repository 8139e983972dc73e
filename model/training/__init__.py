"""From training rows to trained towers: the loop, its step, checkpoints and warm starts."""
