"""Two stages of a day: `features` turns events and snapshots into examples, a transform graph and a
corpus; `embed` turns the corpus and a sample of users into vectors. Both are Beam jobs that read and write
files.

    partitioning, scaffold   before the first day: logs laid out by day, a pipeline file drafted
    features_stage.py        the stage `features`:
      ingest                   files of the days -> checked records
      point_in_time, features  records -> examples, queries, users, corpora, as of each moment
      transform                examples -> a transform graph, and what the towers read
      validation               examples -> the day's statistics and anomalies
    embed_stage.py           the stage `embed`
    day_plan.py, hashing.py, beam   shared code

twinspire_core/contracts/feature_schema.py has the folders and columns of `features`. `[tool.importlinter]` in
pyproject.toml has the allowed direction of imports.
"""
