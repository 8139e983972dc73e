"""Two stages of a day: `features` turns events and snapshots into examples, a transform graph and a
corpus; `embed` turns the corpus and a sample of users into vectors. They read and write the disk,
by Beam.

    logs, pipeline_file            before the first day: logs are laid out by day, a pipeline file is drafted
    features.py                    the stage `features`:
      reading                        files of the days -> records
      point_in_time, raw_features    records -> examples, queries, users, corpora, as things stood at each moment
      transform                      examples -> a transform graph, and what the towers read
      statistics                     examples -> the day's statistics, and what is unusual about them
    embed.py, vectors              the stage `embed`
    schema.py                      folders and columns of `features`, as all others see them
    days, hashing, batches, engine what several of these share

Imports among them point one way: tests/beam_jobs/test_layers.py says which.
"""
