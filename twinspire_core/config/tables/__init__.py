"""The tables of a pipeline file, one class each. docs/pipeline-file.md is made from these."""
