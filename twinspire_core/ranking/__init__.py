"""The second stage: features of candidates, and the ranker that orders candidates by them."""
