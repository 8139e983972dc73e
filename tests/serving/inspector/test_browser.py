"""The pages in a browser: by keyboard, on a phone, by day and by night, without a network."""

import shutil
from collections.abc import Iterator
from contextlib import contextmanager

import pytest
from playwright.sync_api import Browser, Page, sync_playwright

from tests.serving.inspector.conftest import EVIL, ITEMS, LONG, Shop

CHROMIUM = shutil.which("chromium")
pytestmark = pytest.mark.skipif(not CHROMIUM, reason="chromium is not installed")

# Text whose contrast with what is behind it is below 4.5, or 3 for large text: WCAG 2.2, 1.4.3.
FAINT = """() => {
  const parse = text => (text.match(/[\\d.]+/g) || [0, 0, 0, 0]).map(Number);
  const linear = v => (v /= 255) <= .04045 ? v / 12.92 : ((v + .055) / 1.055) ** 2.4;
  const luminance = ([r, g, b]) => .2126 * linear(r) + .7152 * linear(g) + .0722 * linear(b);
  const behind = e => {
    for (; e; e = e.parentElement) {
      const c = parse(getComputedStyle(e).backgroundColor);
      if (c.length < 4 || c[3] === 1) return c;
    }
    throw "nothing is behind it";
  };
  const found = [];
  for (const e of document.querySelectorAll("body *")) {
    const own = [...e.childNodes].some(n => n.nodeType === 3 && n.textContent.trim());
    if (!(own || e.matches("input, select")) || !e.checkVisibility()) continue;
    const style = getComputedStyle(e), size = parseFloat(style.fontSize);
    const [a, b] = [luminance(parse(style.color)), luminance(behind(e))].sort((x, y) => y - x);
    const enough = size >= 24 || (size >= 18.66 && style.fontWeight >= 700) ? 3 : 4.5;
    if ((a + .05) / (b + .05) < enough) found.push([e.tagName, e.className, e.textContent.trim().slice(0, 30)]);
  }
  return found;
}"""
# Elements that reach beyond the right edge.
OUTSIDE = """() => [...document.querySelectorAll("body *")]
  .filter(e => !e.matches(".hidden, .skip") && !e.parentElement.closest(".scroll"))
  .filter(e => e.getBoundingClientRect().right > innerWidth + .5)
  .map(e => e.tagName + " " + e.className + " " + e.textContent.slice(0, 30))"""


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        yield browser
        browser.close()


@contextmanager
def tab(browser: Browser, base: str, **context) -> Iterator[Page]:
    """A page. When it is closed it has asked nobody but the server, run nothing and broken no
    policy.
    """
    opened = browser.new_context(base_url=base, **context)
    page, asked, said = opened.new_page(), [], []
    page.on("request", lambda request: asked.append(request.url))
    page.on("dialog", lambda dialog: said.append(dialog.message))
    page.on("console", lambda message: said.append(message.text))
    page.on("pageerror", lambda error: said.append(str(error)))
    yield page
    opened.close()
    assert asked and all(url.startswith((base, "data:")) for url in asked), asked
    assert [one for one in said if "Failed to load resource" not in one] == []


@pytest.fixture(scope="module")
def views(asked: Shop) -> dict[str, int]:
    """Addresses of all kinds of views, and their statuses."""
    both = f"/?user=anna&k=12&version={asked.early}&against={asked.live}&allow.kind=odd&allow.kind=even"
    return {
        "/": 200,
        "/?user=anna&k=12": 200,
        both: 200,
        f"/?user=who&history=i01{LONG}&feature.place={'9' * 80}": 422,
        f"/?user={LONG}": 404,
        "/item?item=script": 200,
        f"/item?k=12&item={ITEMS[6].replace(chr(34), '%22')}": 200,
        f"/?version={LONG}": 404,
    }


def base(asked: Shop) -> str:
    return str(asked.ask.base_url).rstrip("/")


def focused(page: Page) -> str:
    """What has the focus, by its label; and it shows."""
    shows = (
        "e => { const s = getComputedStyle(e); return s.outlineStyle !== 'none' &&"
        " parseFloat(s.outlineWidth) >= 2 }"
    )
    at = page.locator(":focus")
    assert at.evaluate(shows), at.evaluate("e => e.outerHTML")
    return at.evaluate(
        "e => e.labels?.[0]?.textContent || e.getAttribute('aria-label') || e.textContent"
    ).strip()


def tab_to(page: Page, label: str) -> None:
    passed = []
    while not passed or passed[-1] != label:
        page.keyboard.press("Tab")
        passed.append(focused(page))
        assert len(passed) < 40, passed


def test_by_keyboard_from_a_user_to_similar_items(browser, asked):
    with tab(browser, base(asked)) as page:
        page.goto("/")
        tab_to(page, "User")
        page.keyboard.type("anna")
        page.keyboard.press("Enter")
        page.wait_for_url("**/?user=anna")
        tab_to(page, "Items")
        page.keyboard.type("5")
        tab_to(page, "Filters")
        page.keyboard.press("Enter")
        tab_to(page, "only kind")
        page.keyboard.type("odd")
        page.keyboard.press("Enter")
        page.wait_for_url("**/?user=anna&**")
        assert page.locator("section .items:not(.past) li").count() == 5
        page.keyboard.press("Tab")
        assert focused(page) == "Skip to the lists"
        page.keyboard.press("Enter")
        page.keyboard.press("Tab")
        first = focused(page)
        assert f"5 & {EVIL}" in first, "the newest of the history"
        page.keyboard.press("Enter")
        page.wait_for_url("**/item?**")
        assert page.locator("main h2").first.inner_text().startswith(first)
        assert page.locator(".items li").count() == 5
        tab_to(page, "Back to anna")
        page.keyboard.press("Enter")
        page.wait_for_url("**/?user=anna&**")
        assert page.get_by_label("only kind", exact=True).input_value() == "odd"


def test_a_phone_shows_all_without_scrolling_sideways(browser, asked, views):
    with tab(browser, base(asked), viewport={"width": 390, "height": 800}) as page:
        for address, status in views.items():
            assert page.goto(address).status == status
            page.eval_on_selector_all("details", "all => all.forEach(one => one.open = true)")
            assert page.evaluate("document.documentElement.scrollWidth") == 390, address
            assert page.evaluate(OUTSIDE) == [], address


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_it_can_be_read_by_day_and_by_night(browser, asked, views, scheme):
    with tab(browser, base(asked), color_scheme=scheme) as page:
        for address in views:
            page.goto(address)
            page.eval_on_selector_all("details", "all => all.forEach(one => one.open = true)")
            assert page.evaluate(FAINT) == [], address
            light = (
                page.evaluate("getComputedStyle(document.body).backgroundColor")
                == "rgb(246, 247, 249)"
            )
            assert light == (scheme == "light")


def test_what_is_filled_in_is_asked(browser, asked, views):
    with tab(browser, base(asked)) as page:
        page.goto("/?user=anna")
        page.get_by_label("Source").select_option("two-tower")
        page.get_by_label("Compare with").select_option(asked.early)
        page.get_by_label("Leave out what was seen before").check()
        page.get_by_text("Describe one").click()
        page.get_by_label("History").fill("i01\ni02")
        page.get_by_role("button", name="Show").click()
        assert page.get_by_label("Compare with").input_value() == asked.early
        assert page.get_by_label("History").input_value() == "i01\ni02"
        assert "i01" not in page.locator(".items:not(.past) code").all_inner_texts()
        assert page.locator(".items:not(.past)").count() == 2
        assert page.locator("script").count() == 0
        assert (
            page.locator(".past li").first.inner_text().split("\n")[0] == f"<b>Item</b> 2 & {EVIL}"
        )
