"""The report of a version: one page for people, made when the version is published.

facts.py           what it tells of, read from the working files and the registry
quality.py, judgement.py, making.py, training.py
                   sections of the page
report_blocks.py   what sections consist of: tables, figures, examples
charts.py          figures as SVG
page.py            the page itself, by page.html.jinja and page.css
"""
