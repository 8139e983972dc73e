"""Airflow's UI in a real browser."""

import contextlib
import shutil
from collections.abc import Iterator

import pytest
from playwright.sync_api import Page, sync_playwright

from examples.local_airflow.server import LocalAirflow

_CHROMIUM = shutil.which("chromium")
needs_chromium = pytest.mark.skipif(not _CHROMIUM, reason="chromium is not installed")


@contextlib.contextmanager
def page_of_task(airflow: LocalAirflow, dag: str, run: str, task: str) -> Iterator[Page]:
    """The tab *Details* of a task of a run, as the administrator sees it."""
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=_CHROMIUM, args=["--no-sandbox"])
        page = browser.new_page()
        page.set_default_timeout(120_000)
        page.goto(f"{airflow.url}/dags/{dag}/runs/{run}/tasks/{task}/details")
        page.fill("input[name=username]", airflow.user)
        page.fill("input[name=password]", airflow.password)
        page.click("button[type=submit]")
        yield page
        browser.close()


def report_button(page: Page):
    """The button that leads to the report."""
    return page.get_by_role("link", name="Report", exact=True)
