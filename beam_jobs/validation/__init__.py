"""The day's statistics, whether they are usual, and how they differ from earlier days and from what is
served.
"""
