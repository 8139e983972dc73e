"""What a candidate source adds to what is served, day by day."""
