"""A saved notebook, opened again in JupyterLab: nothing is run, the viewer is in its outputs."""

import os
import socket
import subprocess
import sys
import time
from urllib.error import URLError
from urllib.request import urlopen

import nbformat
import pytest
from nbformat.sign import NotebookNotary
from nbformat.v4 import new_code_cell, new_notebook, new_output
from small import explanation

from lib.viewer.viewer import html

pytest.importorskip("jupyterlab", reason="JupyterLab is not installed")
STAGE = "viewer => viewer.shadowRoot.querySelector('canvas').toDataURL()"


@pytest.fixture(scope="module")
def lab(tmp_path_factory):
    """JupyterLab over a folder with the same notebook twice, one of them trusted."""
    folder = tmp_path_factory.mktemp("lab")
    (folder / "data").mkdir()
    notary = NotebookNotary(data_dir=str(folder / "data"))
    for name in "trusted", "stranger":
        output = new_output("display_data", {"text/html": html(explanation(), frame=1)})
        cell = new_code_cell("explanation", outputs=[output])
        notebook = new_notebook(cells=[cell], metadata={"title": name})
        nbformat.write(notebook, folder / f"{name}.ipynb")
        if name == "trusted":
            notary.sign(nbformat.read(folder / f"{name}.ipynb", 4))
    notary.store.close()
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    options = [f"--port={port}", "--no-browser", "--allow-root", "--IdentityProvider.token="]
    home = {f"JUPYTER_{kind}_DIR": str(folder / kind.lower()) for kind in ("DATA", "CONFIG")}
    server = subprocess.Popen(
        [sys.executable, "-m", "jupyterlab", *options, f"--ServerApp.root_dir={folder}"],
        env=os.environ | home | {"JUPYTER_PLATFORM_DIRS": "1"},
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    address = f"http://127.0.0.1:{port}"
    for _ in range(120):
        try:
            urlopen(f"{address}/api").close()
            break
        except URLError:
            assert server.poll() is None, "JupyterLab did not start"
            time.sleep(0.5)
    yield f"{address}/lab/workspaces"
    server.kill()
    server.wait()


@pytest.fixture
def page(browser):
    page = browser.new_page()
    yield page
    page.close()


def test_in_a_trusted_notebook_the_viewer_lives(lab, page):
    page.goto(f"{lab}/trusted/tree/trusted.ipynb")
    viewer = page.locator("cam-viewer[ready]")
    viewer.wait_for(timeout=60_000)
    page.locator(".jp-Dialog").get_by_role("button", name="No Kernel").click()
    before = viewer.evaluate(STAGE)
    viewer.evaluate("viewer => viewer.focus()")
    page.keyboard.press("ArrowRight")  # JupyterLab would go to the next cell
    assert viewer.evaluate("viewer => viewer.frame") == 2
    assert viewer.evaluate(STAGE) != before


def test_in_a_stranger_s_notebook_the_contact_sheet_stays(lab, page):
    page.goto(f"{lab}/stranger/tree/stranger.ipynb")
    page.get_by_alt_text("The 6 frames of the clip").wait_for(timeout=60_000)
    assert page.get_by_text("true: Opening [something]").is_visible()
    assert page.locator("cam-viewer").count() == 0
    assert page.evaluate("customElements.get('cam-viewer') === undefined")
