"""Groups of ranking features, by the data they are made from."""
