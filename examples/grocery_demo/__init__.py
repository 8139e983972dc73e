"""`make demo`: some days of a grocery's purchases through Airflow, and the lists that come of them."""
