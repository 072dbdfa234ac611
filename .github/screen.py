#!/usr/bin/env python3
"""Records a session of hotrun on examples/hello, and writes it as a picture: .github/screen.svg.

    cargo build --release
    python3 .github/screen.py [target/release/hotrun]

The example is copied to a temporary directory, and hotrun runs there in a pseudoterminal: start, a
save with an error, the fix. What it prints is kept as a terminal would show it. Needs Python
3.9, its standard library, and cargo.
"""

import fcntl
import html
import os
import pty
import re
import select
import shutil
import signal
import struct
import sys
import tempfile
import termios
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
COLUMNS, ROWS = 92, 60
PATIENCE = 120

# Size of a character cell, in pixels.
CELL_WIDTH, CELL_HEIGHT, FONT_SIZE, MARGIN, TOP = 8.4, 19, 14, 18, 44
BACKGROUND, FOREGROUND, DIM = "#1b1e28", "#d5d8e0", "#7d8494"
COLORS = ["#3b4252", "#f07178", "#9ece6a", "#e0af68", "#7aa2f7", "#c099ff", "#56c8d8", "#d5d8e0"]
BRIGHT = ["#7d8494", "#ff8b92", "#b9f27c", "#ffcb6b", "#9abdff", "#d8b9ff", "#7fdfee", "#ffffff"]
PLAIN = (None, False, False)


class Screen:
    """Lines of cells, as a terminal of unlimited height would show them."""

    def __init__(self):
        self.lines, self.row, self.column, self.style = [[]], 0, 0, PLAIN

    def feed(self, text):
        # Colours and cursor movements; operating system commands (titles, links); others; text.
        tokens = r"\x1b\[([\d;?]*)([A-Za-z])|\x1b\].*?(?:\x07|\x1b\\)|\x1b[^\[\]]|([^\x1b])"
        for match in re.finditer(tokens, text, re.DOTALL):
            arguments, command, character = match.groups()
            if character:
                self.put(character)
            elif command:
                self.control(arguments, command)

    def put(self, character):
        if character == "\n":
            self.row += 1
        elif character == "\r":
            self.column = 0
        elif character == "\b":
            self.column = max(0, self.column - 1)
        elif character == "\t":
            self.column += 8 - self.column % 8
        elif character.isprintable():
            if self.column >= COLUMNS:
                self.row, self.column = self.row + 1, 0
            line = self.line()
            line.extend([(" ", PLAIN)] * (self.column + 1 - len(line)))
            line[self.column] = (character, self.style)
            self.column += 1

    def line(self):
        self.lines.extend([] for _ in range(self.row + 1 - len(self.lines)))
        return self.lines[self.row]

    def control(self, arguments, command):
        if "?" in arguments:
            return
        numbers = [int(number or 0) for number in arguments.split(";")]
        count = max(1, numbers[0])
        if command == "m":
            self.paint(numbers)
        elif command == "K":
            line = self.line()
            if numbers[0] == 0:
                del line[self.column:]
            elif numbers[0] == 2:
                line.clear()
        elif command == "A":
            self.row = max(0, self.row - count)
        elif command == "B":
            self.row += count
        elif command == "C":
            self.column += count
        elif command == "D":
            self.column = max(0, self.column - count)
        elif command == "G":
            self.column = count - 1
        elif command == "J" and numbers[0] >= 2:
            self.lines, self.row, self.column = [[]], 0, 0

    def paint(self, numbers):
        color, bold, dim = self.style
        numbers = iter(numbers)
        for number in numbers:
            if number == 0:
                color, bold, dim = PLAIN
            elif number == 1:
                bold = True
            elif number == 2:
                dim = True
            elif number == 22:
                bold = dim = False
            elif 30 <= number <= 37:
                color = COLORS[number - 30]
            elif 90 <= number <= 97:
                color = BRIGHT[number - 90]
            elif number == 39:
                color = None
            elif number in (38, 48):
                chosen = extended(numbers)
                color = chosen if number == 38 else color
        self.style = (color, bold, dim)


def extended(numbers):
    """A colour of 256, or of red, green and blue."""
    if next(numbers, 0) == 2:
        return "#" + "".join(f"{next(numbers, 0):02x}" for _ in range(3))
    number = next(numbers, 0)
    if number < 16:
        return (COLORS + BRIGHT)[number]
    if number >= 232:
        return "#" + f"{8 + 10 * (number - 232):02x}" * 3
    steps = [0, 95, 135, 175, 215, 255]
    parts = divmod(number - 16, 36)
    return "#" + "".join(f"{steps[step]:02x}" for step in (parts[0], *divmod(parts[1], 6)))


class Session:
    """hotrun on a terminal."""

    def __init__(self, program, directory):
        self.text, self.seen = "", 0
        self.pid, self.master = pty.fork()
        if self.pid == 0:
            os.chdir(directory)
            for name in list(os.environ):
                if name.startswith(("CARGO", "HOTRUN", "RUST_LOG", "NO_COLOR")):
                    del os.environ[name]
            os.environ.update(TERM="xterm-256color", COLUMNS=str(COLUMNS), LINES=str(ROWS))
            time.sleep(0.1)
            os.execv(program, ["hotrun"])
        size = struct.pack("HHHH", ROWS, COLUMNS, 0, 0)
        fcntl.ioctl(self.master, termios.TIOCSWINSZ, size)

    def read(self, timeout):
        if not select.select([self.master], [], [], timeout)[0]:
            return True
        try:
            data = os.read(self.master, 65536)
        except OSError:
            return False
        self.text += data.decode(errors="replace")
        return bool(data)

    def wait_for(self, pattern):
        """Waits for a line with this, after what was waited for last."""
        end = time.monotonic() + PATIENCE
        while True:
            # Escape sequences keep their length, so that places in both texts are the same.
            blank = lambda escape: " " * len(escape.group())
            plain = re.sub(r"\x1b\[[\d;?]*[A-Za-z]", blank, self.text)
            found = re.compile(pattern).search(plain, self.seen)
            if found:
                self.seen = found.end()
                break
            if time.monotonic() > end or not self.read(1):
                sys.exit(f"no {pattern!r} in:\n{self.text}")
        self.settle()

    def settle(self, seconds=0.5):
        end = time.monotonic() + seconds
        while time.monotonic() < end and self.read(0.1):
            pass

    def quit(self):
        os.kill(self.pid, signal.SIGINT)
        while self.read(PATIENCE):
            pass
        os.waitpid(self.pid, 0)


def record(program):
    with tempfile.TemporaryDirectory(prefix="hotrun-screen-") as place:
        directory = Path(place).resolve() / "hello"
        shutil.copytree(ROOT / "examples/hello", directory, ignore=shutil.ignore_patterns("target"))
        source = directory / "src/main.rs"
        good = source.read_text()
        session = Session(program, directory)
        session.wait_for("ready")
        source.write_text(good.replace("{GREETING}", "{welcome}"))
        session.wait_for("failed")
        source.write_text(good.replace("Hello from hotrun", "Hello again"))
        session.wait_for("ready")
        text = session.text.replace(str(directory), "~/hello")
        session.quit()
        return text


def picture(lines):
    width = MARGIN * 2 + COLUMNS * CELL_WIDTH
    height = TOP + len(lines) * CELL_HEIGHT + MARGIN
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{width:.0f}" height="{height}" '
        f'viewBox="0 0 {width:.0f} {height}" role="img">',
        "<title>hotrun builds and runs a server, keeps it running when a build fails, and "
        "restarts it after the fix</title>",
        f'<rect width="100%" height="100%" rx="9" fill="{BACKGROUND}"/>',
    ]
    for place, color in enumerate(["#f07178", "#e0af68", "#9ece6a"]):
        parts.append(f'<circle cx="{MARGIN + 6 + place * 20}" cy="20" r="6" fill="{color}"/>')
    parts.append(f'<g font-family="ui-monospace, SFMono-Regular, Menlo, Consolas, monospace" '
                 f'font-size="{FONT_SIZE}" fill="{FOREGROUND}" xml:space="preserve">')
    for number, line in enumerate(lines):
        y = TOP + number * CELL_HEIGHT + FONT_SIZE
        start = 0
        while start < len(line):
            style = line[start][1]
            end = start
            while end < len(line) and line[end][1] == style:
                end += 1
            text = "".join(character for character, _ in line[start:end])
            if text.strip():
                parts.append(run(text, start, y, style))
            start = end
    return "\n".join([*parts, "</g>", "</svg>", ""])


def run(text, column, y, style):
    """Characters of one style. The length is set, as fonts differ."""
    color, bold, dim = style
    column += len(text) - len(text.lstrip())
    text = text.strip()
    color = color or (DIM if dim else None)
    look = (f' fill="{color}"' if color else "") + (' font-weight="bold"' if bold else "")
    x, length = MARGIN + column * CELL_WIDTH, len(text) * CELL_WIDTH
    return f'<text x="{x:.1f}" y="{y}" textLength="{length:.1f}"{look}>{html.escape(text)}</text>'


def main():
    program = Path(sys.argv[1] if len(sys.argv) > 1 else ROOT / "target/release/hotrun").resolve()
    if not program.exists():
        sys.exit(f"{program} does not exist: cargo build --release, or name another")
    screen = Screen()
    screen.feed("\x1b[32m~/hello $\x1b[0m hotrun\r\n")
    screen.feed(record(str(program)))
    lines = screen.lines
    while lines and not lines[-1]:
        lines.pop()
    file = ROOT / ".github/screen.svg"
    file.write_text(picture(lines))
    print(f"wrote {file.relative_to(ROOT)}: {len(lines)} lines")


if __name__ == "__main__":
    main()
