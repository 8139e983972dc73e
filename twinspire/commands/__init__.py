"""The commands, by what they are for; `twinspire.cli` is their table of contents."""
