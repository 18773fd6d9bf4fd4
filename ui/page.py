"""The Gradio page: one panel, whose markup, style and scripts lie in `panel/`."""

from __future__ import annotations

from pathlib import Path

import gradio as gr
from fastapi import FastAPI

PANEL = Path(__file__).parent / "panel"

# The page's own address may have a prefix that only the browser knows: every address is derived from it.
_LOAD = """
const root = new URL(window.gradio_config?.root || document.baseURI, location.href);
if (!root.pathname.endsWith('/')) root.pathname += '/';
root.search = root.hash = '';
import(new URL('panel/main.js', root).href)
  .then((panel) => panel.mount(element, root))
  .catch(() => { element.textContent = 'This page cannot start. Please reload it, or use a newer browser.'; });
"""
# Gradio's own margins and footer would frame the panel.
_STYLE = """
.gradio-container, .gradio-container :has(.um) {
  padding: 0 !important; margin: 0 !important; max-width: none !important
}
.gradio-container footer { display: none !important }
"""


def build_page() -> gr.Blocks:
    """Returns the page; what it shows comes from `panel/`."""
    page = gr.Blocks(title="Unmute", analytics_enabled=False, fill_width=True)
    with page:
        gr.HTML(
            value="",
            html_template=(PANEL / "panel.html").read_text(encoding="utf-8"),
            js_on_load=_LOAD,
            apply_default_css=False,
            elem_id="unmute-panel",
        )
    return page


def mount(app: FastAPI, root_path: str) -> None:
    """Puts the page at the root of `app`."""
    gr.mount_gradio_app(
        app,
        build_page(),
        path="/",
        root_path=root_path or None,
        ssr_mode=False,
        show_error=False,
        # Nothing here takes files, but Gradio's upload is always open.
        max_file_size=1,
        footer_links=[],
        run_history=False,
        css=_STYLE,
        favicon_path=str(PANEL / "icon.svg"),
    )
