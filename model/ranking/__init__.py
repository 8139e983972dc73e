"""The second stage: what it is fitted on, the fit, and what it is worth on the day."""
