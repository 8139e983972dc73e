"""A published version over HTTP: `twinspire serve PIPELINE`. Explained in docs/serving.md.

serving/app.py builds the application, runs it and checks who may send requests. Its parts:

    service.py          the paths, and what they share
    server_settings.py  what a deployment chooses
    bodies.py           bodies of requests: read, checked by types, and errors about wrong bodies
    events.py           live events: bodies, and the thread that feeds them to the version
    micro_batching.py   requests of one moment, answered as one batch by worker threads
    answer_bodies.py    a batch, answered
    openapi.py          the OpenAPI document: answers and errors as types, bodies described
    hot_swap.py         the live version: picked up, warmed up, swapped
    connection.py       a connection, with limits for headers and slow clients
    prometheus.py       figures for Prometheus
    http_errors.py      error answers to clients
"""
