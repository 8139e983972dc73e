"""Settings that the log does not tell, searched for on days of the past."""
