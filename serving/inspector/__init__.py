"""The page at `/` of `twinspire serve`: what a version recommends, and why. Explained in
docs/serving.md.

What is where:
    router.py     addresses, statuses, headers
    form.py       an address, read as what is asked; and addresses of neighbouring views
    shelf.py      versions besides the live one, loaded when somebody asks for them
    catalogue.py  what a version offers to choose from, and which of its items are popular or new
    panel.py      one version's answer, as it is shown
    live.py       the live version, as it is shown
    page.py       both, put into the templates
    templates/    of Jinja2; they escape everything
"""
