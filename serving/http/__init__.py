"""A published version over HTTP: `twinspire serve PIPELINE`. Explained in docs/serving.md.

What is where:
    app.py        the routes, put together; the one place to add another router
    service.py    what the routes share
    settings.py   what a deployment chooses
    bodies.py     request bodies, checked
    openapi.py    the same bodies, described
    reference.py  that description as a page
    live.py       the live version: picked up, warmed up, swapped
    warming.py    what a version is asked before it answers anybody
    batching.py   requests of one moment, answered as one batch by a worker thread
    answers.py    a batch, answered
    edge.py       who may ask, and what is counted of each request
    metrics.py    what Prometheus reads
    errors.py     what is said when something is wrong
    run.py        the process
"""
