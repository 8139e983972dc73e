"""Many days of a small recommender in Airflow, a part of which is killed on each."""
