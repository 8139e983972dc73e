"""The inspector: a page for people at `/`. It shows any user's history next to the list of any version,
and why each item is in it.

    router.py      paths, statuses, headers; versions that are loaded when somebody looks at them
    list_view.py   one version's list as it is shown, with tags and facts about its items
    templating.py  the page, put together from templates; the addresses in it
"""
