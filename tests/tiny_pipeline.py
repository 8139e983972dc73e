"""The pipeline of tests that read no file of one."""

from twinspire_core.config.pipeline import Pipeline


def tiny_pipeline(**tables) -> Pipeline:
    """Users and items by their ids, but for the tables given."""
    usual = {
        "pipeline": {"name": "tiny"},
        "source": {"events": "/none/dt={date}/"},
        "columns": {"user": "user", "item": "item", "time": "time"},
        "features": {
            "user": {"kind": "id", "tower": "query"},
            "item": {"kind": "id", "tower": "item"},
        },
    }
    return Pipeline.model_validate(usual | tables)
