"""What orders candidates: the rows that it is fitted on, the fit, and what it is worth on the day."""
