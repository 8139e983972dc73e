"""What candidate sources that are fitted on users' sequences add to the simpler ones."""
