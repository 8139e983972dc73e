"""The inspector: a page for people at `/`. It shows any user's history beside the list of any
version, and why each item is in it.

    router.py         addresses, statuses, headers, templates
    address.py        an address, read as a request; and addresses of neighbouring views
    version_view.py   versions besides the live one, loaded when somebody looks at them; what is
                      shown of each
    list_view.py      one version's list, and why each item is in it
"""
