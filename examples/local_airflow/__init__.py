"""A whole Airflow on this machine, for the demo and for tests."""
