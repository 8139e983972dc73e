"""Raw records of CSV, JSON Lines and Parquet files, as they are written."""
