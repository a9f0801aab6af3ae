"""The dashboard of a gateway that asks who somebody is, in a real browser: in, out, and what a wrong token is told."""

import asyncio
import base64
import os
import time
from pathlib import Path

import pytest
from browser import browsing

from loopcast.auth.tokens import make_token

SECRET = "integration-secret-of-more-than-32-bytes"
FEED = "document.querySelectorAll('#feed li').length"


def token(*subscribe, ttl=600, secret=SECRET):
    return make_token(secret, subscribe=subscribe, now=time.time(), ttl=ttl, subject="ada")


async def give(page, value):
    """Type a token into the dialog and send it."""
    await page.value("document.querySelector('#token').value = ''")
    await page.value("document.querySelector('#token').focus()")
    await page.call("Input.insertText", text=value)
    await page.key("Enter", code="Enter", windowsVirtualKeyCode=13, text="\r")


async def picture(page, name):
    """Keep a picture of the page, where somebody wants to look at it."""
    if folder := os.environ.get("LOOPCAST_TEST_PICTURES"):
        shot = await page.call("Page.captureScreenshot", format="png")
        await asyncio.to_thread(Path(folder, f"{name}.png").write_bytes, base64.b64decode(shot["data"]))


async def cookies(page):
    found = await page.call("Network.getCookies")
    return [(one["name"], one["httpOnly"], one["sameSite"]) for one in found["cookies"]]


@pytest.fixture
def asking(start_gateway):
    return start_gateway(jwt_secret=SECRET, jwt_leeway_seconds=0)


async def test_in_and_out(asking, feed, tmp_path):
    """A wrong token is refused in words; a good one becomes a cookie that outlives the page, until somebody leaves."""
    async with feed() as log:
        await log.send("exp-1", {"n": 1}, {"n": 2})
        await log.send("prod", {"n": 3})
        async with browsing(asking.http + "/", tmp_path / "browser") as page:
            await page.until("document.querySelector('#signin')?.open")
            assert 0 == await page.value(FEED)
            await picture(page, "1-asked")

            await give(page, "no token at all")
            malformed = await page.until("document.querySelector('#refused').innerText")
            await give(page, token("exp-*", secret="another-secret-of-more-than-32-bytes"))
            wrong = await page.until(f"((t) => t !== {malformed!r} && t)(document.querySelector('#refused').innerText)")
            await picture(page, "2-refused")
            await give(page, token("exp-*", ttl=-5))
            expired = await page.until(f"((t) => t !== {wrong!r} && t)(document.querySelector('#refused').innerText)")
            assert await page.value("document.querySelector('#signin').open")
            assert [] == await cookies(page)

            await give(page, token("exp-*"))
            await page.until("!document.querySelector('#signin').open")
            await page.until(f"{FEED} === 2")
            await page.until("document.querySelector('#user').innerText === 'ada'")
            await log.send("exp-1", {"n": 4})
            await page.until(f"{FEED} === 3")
            names = await page.value("[...document.querySelectorAll('#experiments .name')].map((one) => one.innerText)")
            [(_, hidden, same)] = await cookies(page)
            seen = await page.value("document.cookie")
            await picture(page, "3-in")

            await page.call("Page.reload")
            await page.until(f"{FEED} === 3")
            assert not await page.value("document.querySelector('#signin').open")

            await page.until("!document.querySelector('#signout').hidden")
            await page.value("document.querySelector('#signout').click()")
            await page.until("document.querySelector('#signin').open")
            left = await page.value(f"[{FEED}, document.querySelectorAll('#experiments li').length]")
            await picture(page, "4-out")
            assert [] == await cookies(page)
            await page.call("Page.reload")
            await page.until("document.querySelector('#signin')?.open")
            await give(page, token("exp-1"))
            await page.until(f"{FEED} === 3")
            complaints = page.complaints

    assert "expired" in expired
    assert {"All experiments", "exp-1"} == set(names)
    assert (True, "Strict", "") == (hidden, same, seen)
    assert [0, 0] == left
    assert [] == complaints


@pytest.mark.slow  # it waits until a session is over
async def test_a_session_that_runs_out(asking, feed, tmp_path):
    """When the token expires the page asks again, and goes on with another one where it was."""
    async with feed() as log:
        await log.send("exp-1", {"n": 1})
        async with browsing(asking.http + "/#exp-1", tmp_path / "browser") as page:
            await page.until("document.querySelector('#signin')?.open")
            await give(page, token("exp-*", ttl=12))
            await page.until(f"{FEED} === 1")
            await page.until("document.querySelector('#signin').open")
            await picture(page, "5-expired")
            await log.send("exp-1", {"n": 2})
            await give(page, token("exp-*"))
            await page.until(f"{FEED} === 2")
            title = await page.text("#title")
            complaints = page.complaints

    assert "exp-1" == title
    assert [] == complaints


async def test_nobody_is_signed_out_where_nobody_is_asked(start_gateway, feed, tmp_path):
    """A gateway that asks nobody shows no way out."""
    async with feed(), browsing(start_gateway().http + "/", tmp_path / "browser") as page:
        await page.until("document.querySelector('#state').innerText === 'live'")
        hidden = await page.value("document.querySelector('#signout').hidden")

    assert hidden
