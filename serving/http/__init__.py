"""A published version over HTTP: `twinspire serve PIPELINE`. Explained in docs/serving.md.

What is where; serving/app.py puts the application together and serves it:

    routes.py           the paths
    service.py          what the routes share
    server_settings.py  what a deployment chooses
    request_models.py   bodies that clients send, as types
    answer_models.py    answers that they get, as types
    body_reading.py     the bytes of a body, as they come in
    bodies.py           request bodies, checked
    openapi.py          the types, described
    api_page.py         that description as a page
    hot_swap.py         the live version: picked up, warmed up, swapped
    micro_batching.py   requests of one moment, answered as one batch by a worker thread
    handlers.py         a batch, answered
    results.py          lists of a version, as answers have them
    connection.py       a connection, with limits to headers and to slow clients
    middleware.py       who may ask, and what is counted of each request
    prometheus.py       what Prometheus reads
    http_errors.py      what a client is told when something is wrong
"""
