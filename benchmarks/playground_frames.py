"""How smoothly the playground draws, in headless Chromium without a GPU.

    python benchmarks/playground_frames.py [--seconds 5] [--inputs 32] [--samples 256]

Needs playwright and Chromium. For each speed, the frames that were drawn in a second (a browser
draws at most 60), the training steps that were computed, and how many of them have a point of
their own in the pictures: above 240 steps a second every k-th step is drawn. ``engine`` is the
engine alone, without any drawing.
"""

from __future__ import annotations

import argparse
import shutil
import tempfile
from pathlib import Path

from playwright.sync_api import sync_playwright

from ste_lightning.playground import page

_RUN = """async ([n, N, speed, seconds]) => {
  change({n, N, m: 4, noise: 0.5, speed});
  await new Promise((next) => setTimeout(next, 500));
  const [steps, start] = [student.steps, performance.now()];
  let frames = 0;
  await new Promise((done) => {
    const count = () => {
      frames++;
      performance.now() - start > 1000 * seconds ? done() : requestAnimationFrame(count);
    };
    requestAnimationFrame(count);
  });
  const passed = (performance.now() - start) / 1000;
  const computed = (student.steps - steps) / passed;
  return {"frames/s": frames / passed, "steps/s": computed, "drawn steps/s": computed / stride()};
}"""
_ENGINE = """([n, N, seconds]) => {
  const one = {...settings, n, N, m: 4, noise: 0.5};
  const trained = new Student(drawProblem(one), one);
  const start = performance.now();
  while (performance.now() - start < 1000 * seconds) trained.step();
  return 1000 * trained.steps / (performance.now() - start);
}"""


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--seconds", type=float, default=5.0)
    parser.add_argument("--inputs", type=int, default=32)
    parser.add_argument("--samples", type=int, default=256)
    options = parser.parse_args()
    size = [options.inputs, options.samples]
    program = shutil.which("chromium") or shutil.which("chromium-browser")
    with tempfile.TemporaryDirectory() as folder, sync_playwright() as playwright:
        file = Path(folder) / "page.html"
        file.write_text(page(), encoding="utf-8")
        flags = ["--no-sandbox", "--disable-gpu"]
        browser = playwright.chromium.launch(executable_path=program, args=flags)
        view = browser.new_page(viewport={"width": 1280, "height": 900})
        view.goto(f"{file.as_uri()}#samples")
        print(f"n = {size[0]}, N = {size[1]}, m = 4, label noise 0.5")
        for speed in (60, 120, 240, 1000, 5000):
            found = view.evaluate(_RUN, [*size, speed, options.seconds])
            told = ", ".join(f"{name} {value:.1f}" for name, value in found.items())
            print(f"speed {speed:4d}: {told}", flush=True)
        view.evaluate("setPlaying(false)")
        print(f"engine: {view.evaluate(_ENGINE, [*size, options.seconds]):.0f} steps/s")
        browser.close()


if __name__ == "__main__":
    main()
