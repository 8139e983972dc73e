"""From vectors to a published version: index, gate, manifest and registry."""
