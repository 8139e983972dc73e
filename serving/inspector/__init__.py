"""The page at `/` of `twinspire serve`: what a version recommends, and why. Explained in
docs/serving.md.

    router.py         addresses, statuses, headers
    address.py        an address, read as what is asked; and addresses of neighbouring views
    version_cache.py  versions besides the live one, loaded when somebody asks for them
    corpus_view.py    what a version offers to choose from; which items are popular, new or rare
    version_view.py   one version's answer, as it is shown
    live_view.py      the live version, as it is shown
    templating.py     both, put into the templates
    templates/        of Jinja2; they escape everything
"""
