"""The inspector: pages for people. `/` says whether the recommender is well. Other pages show a user's
history next to the list of a version, and why each item is in the list.

    router.py      paths, statuses, headers; versions that are loaded when somebody looks at them
    home_page.py   facts about versions, read by a separate thread; the sentences of the home page about them
    list_view.py   one version's list as it is shown, with tags and facts about its items
    templating.py  pages, put together from templates; the addresses in them
"""
