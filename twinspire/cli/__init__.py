"""The commands, by what they are for; `twinspire.cli.main` is their table of contents."""
