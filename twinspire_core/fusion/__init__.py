"""One list out of several."""
