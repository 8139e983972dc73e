"""Backfills by Airflow: which days one would run, starting it, and how it goes."""
