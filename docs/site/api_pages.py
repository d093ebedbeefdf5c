"""The API reference: a page for each module that people import from."""

from __future__ import annotations

__all__ = ["MODULES", "pages"]

MODULES = {
    "ste_lightning": "The main names in one place",
    "callbacks": "Callbacks of Lightning",
    "convert": "Float network in, quantized network out",
    "layers": "Quantized layers",
    "quantizers": "Quantizers",
    "functional": "Forward maps, backward rules, schedules",
    "models": "LightningModules",
    "models.networks": "Networks of the literature",
    "data": "Data modules",
    "metrics": "Metrics",
    "optim": "Optimizers",
    "deploy": "Packed networks",
    "theory": "Simulations and closed forms",
    "theory.population": "Infinitely many samples",
    "figures": "Figures",
    "errors": "Errors",
}


def pages() -> dict[str, str]:
    """Return the Markdown of every page, by file."""
    found = {}
    for name, title in MODULES.items():
        module = name if name == "ste_lightning" else f"ste_lightning.{name}"
        found[f"api/{name}.md"] = f"# {title}\n\n`{module}`\n\n::: {module}\n"
    return found
