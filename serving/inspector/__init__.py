"""The inspector: pages for people. `/` says whether the recommender is well; others show any user's history next
to the list of any version, and why each item is in it.

    router.py      paths, statuses, headers; versions that are loaded when somebody looks at them
    home_page.py   what is known of versions, read by a thread of its own; and the home page's sentences of it
    list_view.py   one version's list as it is shown, with tags and facts about its items
    templating.py  pages, put together from templates; the addresses in them
"""
