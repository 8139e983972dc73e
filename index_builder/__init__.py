"""From vectors to a published version: index, gate, report and registry."""
