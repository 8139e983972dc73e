"""The report of a version: one page for people, made when the version is published.

facts.py      what it tells of, read from the working files and the registry
quality.py, training.py, search.py, trend.py, changes.py, day_data.py   a part of the page each
report_blocks.py  what parts consist of: tables, figures, examples
charts.py     figures as SVG
page.py       the page itself, by page.html.jinja and page.css
"""
