"""What people are shown: tables, figures and names, the same in a terminal and on a page."""
