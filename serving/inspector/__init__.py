"""The inspector: a page for people at `/`. It shows any user's history beside the list of any
version, and why each item is in it.

    router.py         addresses, statuses, headers
    address.py        an address, read as a request; and addresses of neighbouring views
    version_cache.py  versions besides the live one: which there are, loaded when somebody looks at them
    version_view.py   what is shown of a version itself
    list_view.py      one version's list, as it is shown
    item_tags.py      why an item is there, in a word
    known_facts.py    what a version knows of a user and of an item
    templating.py     all of it, put into the templates
"""
