"""The inspector: a page for people at `/`. It shows any user's history next to the list of any version,
and why each item is in it.

    router.py         addresses, statuses, headers
    address.py        an address as a request, and the addresses of neighbouring views
    version_cache.py  versions besides the live one, loaded when somebody looks at them
    list_view.py      one version's list as it is shown, with tags and facts about its items
    templating.py     the page, put together from templates
"""
