"""The report of a version: one page for people, made when the version is published.

facts.py           what it tells of, read from the working files and the registry
changes.py, index_search.py, judgement.py, list_tables.py, slice_figures.py, source_figures.py,
stage_outcomes.py, training.py, trend.py
                   sections of the page
report_blocks.py   what sections consist of: tables, figures, examples
charts.py          figures as SVG
page.py            the page itself, by page.html.jinja and page.css
"""
