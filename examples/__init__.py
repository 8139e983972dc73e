"""What is not installed: the demo, and an Airflow and a Flink cluster on this machine."""
