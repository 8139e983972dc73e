"""Training rows of `benchmarks.features`, made in two other ways."""
