#!/usr/bin/env python3
"""Compares hotrun with the tools like it that are installed, and prints the README's table.

    python3 .github/compare.py                       # every tool that is on the PATH
    HOTRUN=target/release/hotrun python3 .github/compare.py hotrun air

Each cell comes from a run: a project of a build step and a web server is set up in a temporary
directory, the tool is started on it, and files are saved. Installs nothing. Linux only, since it
finds processes in /proc. Needs Python 3.9, its standard library, and git.

ROWS="latency stdin" in the environment runs only these rows. Every tool gets the configuration that
suits it best: air's shortest delay, a restart for watchexec, hotrun's and watchexec's own sockets
in the row about connections.
"""

import errno
import os
import pty
import re
import shutil
import signal
import socket
import statistics
import subprocess
import sys
import tempfile
import threading
import time
import uuid
from pathlib import Path

SAVES = 10
RESTARTS = 20
# Longest wait for a tool that does what is expected, in seconds.
PATIENCE = 20
# Time after which a tool that has done nothing is expected to do nothing, in seconds.
SETTLED = 2.5
MARK = "HOTRUN_COMPARE"

BUILD = """\
touch "$EVENTS.builds"
while read other; do kill -0 "$other" 2> /dev/null && : > "$EVENTS.overlap"; done < "$EVENTS.builds"
echo $$ >> "$EVENTS.builds"
[ -n "$BUILD_SECONDS" ] && sleep "$BUILD_SECONDS"
mkdir -p out
! grep -q BROKEN src/version.txt && cp src/version.txt out/version
"""

APP = """\
import os, time
env = os.environ
with open("out/version") as file:
    version = file.read().strip()
with open(env["EVENTS"], "a") as events:
    events.write(f"{time.time_ns()} {version}\\n")
import signal, socket, subprocess, sys, threading
def read():
    line = sys.stdin.readline()
    with open(env["EVENTS"] + ".read", "w") as file:
        file.write(line)
if "APP_READS" in env:
    threading.Thread(target=read, daemon=True).start()
if "APP_IGNORES_TERM" in env:
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
if "APP_DAEMON" in env:
    subprocess.Popen(["sleep", "600"], start_new_session=True)
time.sleep(float(env.get("APP_SECONDS", "0")))
if env.get("LISTEN_FDS", "0") != "0":
    server = socket.socket(fileno=int(env.get("LISTEN_FDS_FIRST_FD", "3")))
else:
    server = socket.socket()
    server.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    while True:
        try:
            server.bind(("127.0.0.1", int(env["APP_PORT"])))
            break
        except OSError:
            time.sleep(0.01)
    server.listen(128)
while True:
    client = server.accept()[0]
    try:
        client.sendall(version.encode())
        client.close()
    except OSError:
        pass
"""

RUN = f"{sys.executable} -S app.py"
BOTH = f"sh build.sh && exec {RUN}"


class Tool:
    """A tool, as it is started on the project."""

    name = ""
    reads_air_toml = False

    def path(self):
        return shutil.which(os.environ.get(self.name.upper(), self.name))

    def version(self):
        done = subprocess.run([self.path(), "--version"], capture_output=True, text=True,
                              stdin=subprocess.DEVNULL, timeout=20)
        found = re.search(r"\d+\.\d+(\.\d+)?", done.stdout + done.stderr)
        return found.group() if found else "?"

    def command(self, root, port):
        """Writes the configuration into `root`. Returns the words behind the tool's name.
        `port` is set if the tool is to hold the socket, where it can."""
        raise NotImplementedError


class Hotrun(Tool):
    name = "hotrun"
    reads_air_toml = True

    def command(self, root, port):
        text = f'[build]\ncmd = "sh build.sh"\nentrypoint = "{RUN}"\ninclude_dir = ["src"]\n'
        if port:
            text += f"[[listen]]\naddress = {port}\n"
        (root / "hotrun.toml").write_text(text)
        return []


class Air(Tool):
    name = "air"
    reads_air_toml = True

    def version(self):
        done = subprocess.run([self.path(), "-v"], capture_output=True, text=True)
        return re.search(r"v(\d+\.\d+\.\d+)", done.stdout + done.stderr).group(1)

    def command(self, root, port):
        (root / ".air.toml").write_text(AIR_TOML)
        return []


AIR_TOML = f"""\
[build]
cmd = "sh build.sh"
full_bin = "exec {RUN}"
include_dir = ["src"]
include_ext = ["txt"]
delay = 1
"""


class Watchexec(Tool):
    name = "watchexec"

    def command(self, root, port):
        held = ["--socket", str(port)] if port else []
        return ["-q", "-r", "-w", "src", "-e", "txt", *held, BOTH]


class Nodemon(Tool):
    name = "nodemon"

    def command(self, root, port):
        return ["-q", "--signal", "SIGTERM", "--watch", "src", "--ext", "txt", "--exec", BOTH]


class Bacon(Tool):
    name = "bacon"

    def command(self, root, port):
        (root / "bacon.toml").write_text(
            'default_job = "serve"\n[jobs.serve]\n'
            f'command = ["sh", "-c", "{BOTH}"]\n'
            'watch = ["src"]\ndefault_watch = false\nneed_stdout = true\n'
            'background = false\non_change_strategy = "kill_then_restart"\n'
        )
        return ["--headless"]


class Wgo(Tool):
    name = "wgo"

    def version(self):
        return "?"

    def command(self, root, port):
        return ["-dir", "src", "-file", ".txt", "sh", "build.sh", "::", *RUN.split()]


TOOLS = [Hotrun(), Air(), Watchexec(), Nodemon(), Bacon(), Wgo()]


def free_port():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def until(is_so, seconds=PATIENCE):
    """Whether it became so in time."""
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        if is_so():
            return True
        time.sleep(0.005)
    return False


class Session:
    """A tool that runs on a project of its own."""

    def __init__(self, tool, holds=False, terminal=False, air_toml=False, **env):
        self.root = Path(tempfile.mkdtemp(prefix="compare-"))
        self.port = free_port()
        self.events = self.root.with_name(self.root.name + ".events")
        self.events.touch()
        (self.root / "src").mkdir()
        subprocess.run(["git", "init", "-q", self.root], check=True)
        (self.root / "build.sh").write_text(BUILD)
        (self.root / "app.py").write_text(APP)
        (self.root / ".gitignore").write_text("/out\n/src/ignored\n")
        (self.root / "src/ignored").mkdir()
        self.save("1")
        words = tool.command(self.root, self.port if holds else None)
        if air_toml:
            for other in self.root.glob("*.toml"):
                other.unlink()
            (self.root / ".air.toml").write_text(AIR_TOML)
        self.mark = uuid.uuid4().hex
        own = {MARK: self.mark, "EVENTS": str(self.events), "APP_PORT": str(self.port)}
        self.log = open(self.root.with_name(self.root.name + ".log"), "wb")
        streams = {"stdin": subprocess.DEVNULL, "stdout": self.log, "stderr": self.log}
        self.master = None
        if terminal:
            self.master, side = pty.openpty()
            streams = {"stdin": side, "stdout": side, "stderr": side}
            threading.Thread(target=self.drain, daemon=True).start()
        self.tool = subprocess.Popen(
            [tool.path(), *words], cwd=self.root, env={**os.environ, **own, **env},
            start_new_session=True, **streams,
            preexec_fn=take_terminal if terminal else None,
        )
        if not until(lambda: self.starts()):
            text = Path(self.log.name).read_text(errors="replace")
            self.end()
            raise RuntimeError(f"{tool.name} started nothing:\n{text}")
        if not env.get("APP_SECONDS"):
            time.sleep(0.5)

    def drain(self):
        try:
            while os.read(self.master, 4096):
                pass
        except OSError:
            pass

    def save(self, text):
        (self.root / "src/version.txt").write_text(text + "\n")
        return time.time_ns()

    def starts(self):
        """Each start of the program: time, version."""
        return [line.split() for line in self.events.read_text().splitlines()]

    def runs(self, version):
        starts = self.starts()
        return bool(starts) and starts[-1][1] == version

    def answers(self):
        try:
            with socket.create_connection(("127.0.0.1", self.port), 1) as client:
                return client.recv(64).decode() or None
        except OSError:
            return None

    def processes(self):
        """The pids of everything that was started here, except zombies."""
        found = []
        needle = f"{MARK}={self.mark}".encode()
        for entry in Path("/proc").iterdir():
            if not entry.name.isdigit():
                continue
            try:
                if needle in (entry / "environ").read_bytes().split(b"\0"):
                    state = (entry / "stat").read_text().rpartition(")")[2].split()[0]
                    if state not in "ZX":
                        found.append(int(entry.name))
            except OSError:
                pass
        return found

    def end(self):
        self.tool.send_signal(signal.SIGINT)
        try:
            self.tool.wait(3)
        except subprocess.TimeoutExpired:
            self.tool.kill()
            self.tool.wait()
        for pid in self.processes():
            try:
                os.kill(pid, signal.SIGKILL)
            except OSError:
                pass
        self.log.close()
        if self.master is not None:
            os.close(self.master)
        shutil.rmtree(self.root, ignore_errors=True)
        for file in self.root.parent.glob(self.events.name + "*"):
            file.unlink()
        Path(self.log.name).unlink()

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.end()


def take_terminal():
    """Makes stdin the controlling terminal of the new session."""
    import fcntl
    import termios

    fcntl.ioctl(0, termios.TIOCSCTTY, 0)


def yes(value):
    return "yes" if value else "no"


def failed_build(tool):
    """A failed build keeps the program running"""
    with Session(tool) as session:
        until(lambda: session.answers() == "1")
        before = len(session.starts())
        session.save("BROKEN")
        time.sleep(SETTLED)
        if session.answers() == "1" and len(session.starts()) > before:
            return "restarts it"
        return yes(session.answers() == "1")


def save_during_build(tool):
    """After a save during a build the newest code runs"""
    with Session(tool, BUILD_SECONDS="0.5") as session:
        session.save("2")
        time.sleep(0.25)
        session.save("3")
        until(lambda: session.answers() == "3", 6)
        time.sleep(1)
        if session.answers() == "3" and Path(f"{session.events}.overlap").exists():
            return "yes, after two builds at once"
        return yes(session.answers() == "3")


def latency(tool):
    """From a save to the new program, ms (median of 10)"""
    with Session(tool) as session:
        times = []
        for number in range(2, SAVES + 2):
            time.sleep(0.3)
            saved = session.save(str(number))
            if not until(lambda: session.runs(str(number))):
                return "never"
            times.append((int(session.starts()[-1][0]) - saved) / 1e6)
        return f"{statistics.median(times):.0f}"


def refused(tool):
    """Refused connections during 20 restarts"""
    with Session(tool, holds=True, APP_SECONDS="0.1") as session:
        until(lambda: session.answers())
        count, done = 0, threading.Event()

        def connect():
            nonlocal count
            while not done.is_set():
                try:
                    with socket.create_connection(("127.0.0.1", session.port), 5) as client:
                        client.recv(64)
                except OSError as error:
                    count += error.errno == errno.ECONNREFUSED
                time.sleep(0.005)

        client = threading.Thread(target=connect)
        client.start()
        for number in range(2, RESTARTS + 2):
            session.save(str(number))
            until(lambda: session.answers() == str(number), 5)
        done.set()
        client.join()
        return str(count)


def left_after_restart(tool):
    """Processes of the old program left after a restart"""
    with Session(tool, APP_DAEMON="1") as session:
        before = set(session.processes()) - {session.tool.pid}
        sleepers = {pid for pid in before if command_of(pid).startswith("sleep")}
        session.save("2")
        until(lambda: session.answers() == "2")
        time.sleep(1)
        return str(len(sleepers & set(session.processes())))


def left_after_kill(tool):
    """Processes left after `kill -9` of the tool"""
    with Session(tool, APP_DAEMON="1") as session:
        session.tool.kill()
        session.tool.wait()
        until(lambda: not session.processes(), SETTLED)
        return str(len(session.processes()))


def command_of(pid):
    try:
        return Path(f"/proc/{pid}/cmdline").read_bytes().replace(b"\0", b" ").decode()
    except OSError:
        return ""


def stubborn(tool):
    """Restart of a program that ignores SIGTERM, s"""
    with Session(tool, APP_IGNORES_TERM="1") as session:
        until(lambda: session.answers() == "1")
        begun = time.monotonic()
        session.save("2")
        if until(lambda: session.answers() == "2"):
            return f"{time.monotonic() - begun:.1f}"
        return "never"


def ignored(tool):
    """Changes to git-ignored files are ignored"""
    with Session(tool) as session:
        before = len(session.starts())
        (session.root / "src/ignored/cache.txt").write_text("1\n")
        time.sleep(SETTLED)
        return yes(len(session.starts()) == before)


def stdin(tool):
    """The program can read a line from the terminal"""
    with Session(tool, terminal=True, APP_READS="1") as session:
        read = Path(f"{session.events}.read")
        os.write(session.master, b"hello\n")
        until(lambda: read.exists() and read.read_text(), SETTLED)
        is_read = read.exists() and read.read_text() == "hello\n"
        return yes(is_read)


def air_toml(tool):
    """Reads `.air.toml`"""
    if not tool.reads_air_toml:
        return "no"
    with Session(tool, air_toml=True) as session:
        session.save("2")
        return yes(until(lambda: session.answers() == "2"))


ROWS = [failed_build, save_during_build, latency, refused, left_after_restart, left_after_kill,
        stubborn, ignored, stdin, air_toml]


def main():
    wanted = sys.argv[1:]
    only = os.environ.get("ROWS", "").split()
    unknown = set(wanted) - {tool.name for tool in TOOLS}
    if unknown:
        sys.exit(f"unknown: {', '.join(sorted(unknown))}")
    tools = [tool for tool in TOOLS if tool.path() and tool.name in (wanted or [tool.name])]
    missing = [tool.name for tool in TOOLS if not tool.path()]
    if missing:
        print(f"not installed: {', '.join(missing)}", file=sys.stderr)
    heads = [f"{tool.name} {tool.version()}" for tool in tools]
    table = [["", *heads], ["---"] * (len(tools) + 1)]
    for row in [row for row in ROWS if not only or row.__name__ in only]:
        cells = []
        for tool in tools:
            print(f"{tool.name}: {row.__doc__}", file=sys.stderr)
            try:
                cells.append(row(tool))
            except RuntimeError as error:
                print(error, file=sys.stderr)
                cells.append("?")
        table.append([row.__doc__, *cells])
    for line in table:
        print(f"| {' | '.join(line)} |")


if __name__ == "__main__":
    main()
