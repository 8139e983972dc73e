"""Feature job and bulk embedding: events and items become examples, a transform graph, a corpus and vectors."""
