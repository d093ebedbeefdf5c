"""A page that runs a packed network in the browser, in JavaScript of its own."""

from ste_lightning.deploy.export.html.node import open_html
from ste_lightning.deploy.export.html.page import page, write_html

__all__ = ["open_html", "page", "write_html"]
