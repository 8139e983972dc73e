"""The registry: published versions, and the log of what happened to them."""
