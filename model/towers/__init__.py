"""The two towers: their architecture, layers and export."""
