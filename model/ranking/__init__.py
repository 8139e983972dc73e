"""The orders of candidates: the rows to fit on, the fit, and the measures on the day."""
