"""The report of a version: one page for people, made when the version is published.

facts.py              facts of a report, from the working files and the registry; types of sections
page.py               the page, by page.html.jinja and page.css, with the gate's verdict and examples
quality_sections.py   quality day by day, list by list, slice by slice
training_sections.py  the loss, the error of estimates, popularity
making_sections.py    changes, data, index, origin
charts.py             figures as SVG
"""
