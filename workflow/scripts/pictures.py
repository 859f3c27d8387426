"""Make the tracked pictures of what users see, in results/reference/pictures (`make pictures`).

Tables, report and commands are run on the tracked reference runs, in a folder of their own. What a
terminal of 80 columns shows is drawn by Chromium. The screen of a training is kept as text, as it
takes minutes to make: `--record` trains the demo again, and keeps its screen at three moments.
"""

import argparse
import fcntl
import html
import io
import os
import pty
import re
import shutil
import struct
import sys
import tempfile
import termios
from collections.abc import Callable, Iterator
from pathlib import Path

from PIL import Image
from playwright.sync_api import Page, sync_playwright

ROOT = Path(__file__).resolve().parents[2]
PICTURES = ROOT / "results/reference/pictures"
COLUMNS, ROWS = 80, 50
CONFIG = "--configfile config/demo.yaml"
EXISTING = f"{CONFIG} --config mode=existing"
DEMO = f"snakemake --cores all {CONFIG}"
REPORT = f"snakemake --cores 1 {EXISTING} --report results/demo/report.html --quiet"
COMMANDS = {  # picture -> the command whose screen it shows
    "rebuild": f"snakemake --cores 1 {EXISTING}",
    "status": "lora status --config config/demo.yaml",
    "show": "lora show table2 --config config/demo.yaml",
}
FIGURES = ("rank_curves", "rank_cost", "learning_curves")
COLORS = 128  # of a picture
MOST_WIDTH = 1300  # pixels
ESCAPE = re.compile(r"\x1b\[[0-9;?]*[A-Za-z]")
STYLE = """
body { margin: 0; background: #1e1e24; }
pre { margin: 0; padding: 14px 18px; width: %dch; color: #e6e6e6; white-space: pre-wrap;
      word-break: break-all; font: 14px/1.35 "DejaVu Sans Mono", monospace; }
b { color: #8fd18f; font-weight: normal; }
"""


class Screen:
    """Lines of a terminal, from what a program writes to it.

    A carriage return goes back to the start of the line, and what follows replaces its characters.
    Colours and other escape sequences are left out.
    """

    def __init__(self) -> None:
        self._lines = [""]
        self._column = 0

    def feed(self, text: str) -> None:
        """Add what the program wrote."""
        for part in re.split(r"([\r\n])", ESCAPE.sub("", text)):
            if part == "\n":
                self._lines.append("")
                self._column = 0
            elif part == "\r":
                self._column = 0
            else:
                line, end = self._lines[-1], self._column + len(part)
                self._lines[-1] = line[: self._column].ljust(self._column) + part + line[end:]
                self._column = end

    @property
    def text(self) -> str:
        """The lines, without spaces at their ends."""
        return "\n".join(line.rstrip() for line in self._lines).rstrip()


def run(command: str, folder: Path) -> Iterator[str]:
    """Run a command in a terminal of COLUMNS columns, and yield what it writes.

    Raises:
        RuntimeError: If it fails.
    """
    process, terminal = pty.fork()
    if process == 0:
        os.chdir(folder)
        fcntl.ioctl(0, termios.TIOCSWINSZ, struct.pack("HHHH", ROWS, COLUMNS, 0, 0))
        path = f"{Path(sys.executable).parent}:{os.environ['PATH']}"
        removed = ("LORA_SCREEN", "COLUMNS", "LINES")
        variables = {name: value for name, value in os.environ.items() if name not in removed}
        variables |= dict(PATH=path, PYTHONPATH=str(folder))
        os.execvpe("sh", ["sh", "-c", command], variables)
    written = []
    while True:
        try:
            data = os.read(terminal, 65536)
        except OSError:  # the program has closed its end
            break
        if not data:
            break
        written.append(data.decode("utf-8", "replace"))
        yield written[-1]
    os.close(terminal)
    if os.waitstatus_to_exitcode(os.waitpid(process, 0)[1]):
        raise RuntimeError(f"{command} failed:\n{''.join(written)[-3000:]}")


def screen_of(command: str, folder: Path) -> str:
    """Return what a terminal shows at the end of a command, with its command line."""
    screen = Screen()
    for text in run(command, folder):
        screen.feed(text)
    return f"$ {command}\n{screen.text}\n"


def moments(pieces: Iterator[str], keep: Callable[[str, str], None]) -> None:
    """Keep the screen of a training when it starts, when half of the cells are done, at the end.

    Args:
        pieces: What the training writes, in order.
        keep: Gets the name of a moment and the screen.
    """
    screen, started, half = Screen(), False, False
    for text in pieces:
        screen.feed(text)
        found = re.findall(r"^\[ *(\d+)/(\d+)\]", screen.text, re.M)
        live = screen.text.splitlines()[-1].startswith("Training") if screen.text else False
        if live and not started and not found:
            started = " left" in screen.text.splitlines()[-1]
            if started:
                keep("demo_start", screen.text)
        if live and found and not half and 2 * int(found[-1][0]) >= int(found[-1][1]):
            half = True
            keep("demo_middle", screen.text)
    keep("demo_end", screen.text)


def keep_text(name: str, text: str) -> None:
    """Write the screen of a moment of the demo."""
    (PICTURES / f"{name}.txt").write_text(f"$ {DEMO}\n{text}\n", encoding="utf-8")


def working_folder(folder: Path, with_runs: bool) -> None:
    """Copy the workflow into a folder, as in a new clone, and the reference runs."""
    for name in ("workflow", "config", "lora", "envs"):
        shutil.copytree(ROOT / name, folder / name)
    shutil.copy(ROOT / "Snakefile", folder)
    if with_runs:
        shutil.copytree(ROOT / "results/reference/runs", folder / "results/demo/runs")


def save(picture: Image.Image, name: str) -> None:
    """Write a picture with few colours, so that it is small."""
    if picture.width > MOST_WIDTH:
        height = round(picture.height * MOST_WIDTH / picture.width)
        picture = picture.resize((MOST_WIDTH, height), Image.Resampling.LANCZOS)
    few = picture.convert("RGB").quantize(COLORS, dither=Image.Dither.NONE)
    few.save(PICTURES / f"{name}.png", optimize=True)


def screenshot(page: Page, name: str, selector: str | None = None) -> None:
    """Save what the browser shows: all of the page, or one element."""
    source = page.locator(selector).first if selector else page
    data = source.screenshot() if selector else page.screenshot(full_page=True)
    save(Image.open(io.BytesIO(data)), name)


def draw_terminal(page: Page, name: str, text: str) -> None:
    """Save a picture of the text in a terminal; lines that start with $ are commands."""
    lines = [
        f"<b>{html.escape(line)}</b>" if line.startswith("$ ") else html.escape(line)
        for line in text.rstrip().split("\n")
    ]
    page.set_content(f"<style>{STYLE % COLUMNS}</style><pre>{chr(10).join(lines)}</pre>")
    screenshot(page, name, "pre")


def draw(page: Page, folder: Path) -> None:
    """Make all pictures with a page of the browser; `folder` has the reference runs."""
    for name, command in COMMANDS.items():
        draw_terminal(page, name, screen_of(command, folder))
    for path in sorted(PICTURES.glob("*.txt")):
        draw_terminal(page, path.stem, path.read_text(encoding="utf-8"))
    screen_of(REPORT, folder)
    page.goto((folder / "results/demo/report.html").as_uri())
    page.wait_for_selector("text=Configuration")
    page.wait_for_timeout(500)
    screenshot(page, "report")
    for name in ("table2", "table6"):
        page.goto((folder / f"results/demo/tables/{name}.html").as_uri())
        screenshot(page, name)
    for name in FIGURES:
        save(Image.open(folder / f"results/demo/figures/{name}.png"), f"figure_{name}")


def main() -> int:
    """Make the pictures; return the exit status."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--record", action="store_true", help="train the demo again; minutes")
    chromium = shutil.which("chromium")
    record = parser.parse_args().record
    if chromium is None:
        print("The program chromium is not installed: apt-get install chromium", file=sys.stderr)
        return 2
    PICTURES.mkdir(exist_ok=True)
    if record:
        with tempfile.TemporaryDirectory() as name:
            working_folder(Path(name), with_runs=False)
            moments(run(DEMO, Path(name)), keep_text)
    with tempfile.TemporaryDirectory() as name, sync_playwright() as playwright:
        working_folder(Path(name), with_runs=True)
        browser = playwright.chromium.launch(
            executable_path=chromium, args=["--no-sandbox", "--disable-gpu"]
        )
        view = dict(width=1200, height=800)
        draw(browser.new_page(viewport=view, device_scale_factor=1), Path(name))
        browser.close()
    return 0


if __name__ == "__main__":
    sys.exit(main())
