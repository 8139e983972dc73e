"""What is not installed: the demo, and an Airflow on this machine."""
