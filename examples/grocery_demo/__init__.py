"""`make demo`: five days of a grocery's real purchases through Airflow, and what they are good
for.
"""
