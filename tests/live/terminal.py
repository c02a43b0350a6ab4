# SPDX-License-Identifier: LGPL-2.1-or-later
"""J8: the screen on real terminals: what tmux shows of a simulated run is what is kept in golden/, and what a terminal is sent.

usage: terminal.py PATH-OF-show_live
"""
import fcntl
import os
import pty
import re
import select
import struct
import subprocess
import sys
import tempfile
import termios
import time
import unittest

HERE = os.path.dirname(os.path.abspath(__file__))
SHOW = sys.argv.pop(1)
# Those of golden/ that Ctrl-C ends the run of: the simulated run of each.
SHOWN = {
    "five-80x24": (5, 2, 4, 57000), "five-160x50": (5, 2, 4, 57000), "five-failed-80x24": (5, 2, 4, 110000),
    "two-hundred-80x24": (200, 10, 50, 500000), "two-hundred-160x50": (200, 10, 50, 500000), "two-hundred-40x10": (200, 10, 50, 500000),
    "forty-at-once-80x24": (200, 40, 50, 61000), "all-at-once-160x50": (200, 200, 50, 20000),
}
ENVIRONMENT = {**{name: value for name, value in os.environ.items() if name not in ("NO_COLOR", "TMUX", "COLUMNS", "LINES")},
               "LC_ALL": "C.UTF-8", "TERM": "xterm-256color",
               "ASAN_OPTIONS": "abort_on_error=1"}  # so that a report is not lost with what was held back of standard error
BEGIN, END = b"\033[?2026h", b"\033[?2026l"


def command(name, frames):
    return [SHOW, *(str(number) for number in SHOWN[name]), str(frames)]


def golden(name):
    with open(os.path.join(HERE, "golden", f"{name}.txt"), encoding="utf-8") as file:
        return file.read().rstrip("\n").splitlines()


class Tmux:
    """One pane, in which words run; it stays when they have ended."""

    def __init__(self, width, height, words):
        self.dir = tempfile.TemporaryDirectory()
        self("-f", "/dev/null", "new-session", "-d", "-x", str(width), "-y", str(height),
             " ".join(words) + "; stty -echo; echo ended; exec sleep 300")

    def __call__(self, *words):
        return subprocess.run(["tmux", "-S", os.path.join(self.dir.name, "tmux"), *words], check=True, capture_output=True,
                              text=True, timeout=30, env=ENVIRONMENT).stdout

    def wait(self, pattern):
        end = time.monotonic() + 60
        while True:
            text = self("capture-pane", "-p", "-S", "-")
            if re.search(pattern, text, re.MULTILINE):
                return text.rstrip("\n").splitlines()
            assert time.monotonic() < end, text
            time.sleep(0.05)

    def close(self):
        self("kill-server")
        self.dir.cleanup()


class Screens(unittest.TestCase):
    def test_what_is_on_the_screen_is_what_is_kept(self):
        """After many frames, of which only changes were written, with words from standard error above."""
        for name in SHOWN:
            with self.subTest(name):
                width, height = re.search(r"(\d+)x(\d+)$", name).groups()
                tmux = Tmux(width, height, command(name, 6))
                try:
                    lines = tmux.wait("^ended$")
                finally:
                    tmux.close()
                self.assertEqual(lines[-1], "ended")
                self.assertEqual(lines[-1 - len(golden(name)):-1], golden(name))
                above = [line for line in lines[:-1 - len(golden(name))] if line]
                self.assertEqual(above, [f"a word on standard error, at look {look}"[:int(width)] for look in (2, 6)])

    def test_a_resize(self):
        """What the terminal has wrapped anew leaves nothing behind."""
        tmux = Tmux(120, 40, command("two-hundred-80x24", 30))
        try:
            tmux.wait("^Now")
            for width, height in ((60, 30), (200, 50), (44, 15), (80, 24)):
                tmux("resize-window", "-x", str(width), "-y", str(height))
                time.sleep(0.7)
            lines = tmux.wait("^ended$")
        finally:
            tmux.close()
        self.assertEqual(lines[-1 - len(golden("two-hundred-80x24")):-1], golden("two-hundred-80x24"))


    def test_a_terminal_that_is_lower_now(self):
        """Its width is as before, and lines that are the same as before stand elsewhere now."""
        tmux = Tmux(80, 24, [SHOW, "200", "10", "0", "100000", "41"])
        try:
            tmux.wait("^Type")
            for height in (10, 24, 12):
                tmux("resize-window", "-x", "80", "-y", str(height))
                time.sleep(1.2)
                shown = tmux("capture-pane", "-p").splitlines()
                self.assertRegex(shown[0], "^upgrade of web", shown)
                self.assertEqual(sum(line.startswith(("upgrade of", "Now ", "batch 1 ", "Type ")) for line in shown), 4, shown)
        finally:
            tmux.close()


class Terminal:
    """A pseudo-terminal of which every read is kept."""

    def __init__(self, words, environment=None, width=80, height=24):
        self.fd, other = pty.openpty()
        fcntl.ioctl(self.fd, termios.TIOCSWINSZ, struct.pack("HHHH", height, width, 0, 0))
        self.process = subprocess.Popen(words, stdin=other, stdout=other, stderr=other, env={**ENVIRONMENT, **(environment or {})},
                                        start_new_session=True)
        os.close(other)
        self.read = b""

    def read_all(self, seconds=60):
        end = time.monotonic() + seconds
        while time.monotonic() < end and select.select([self.fd], [], [], end - time.monotonic())[0]:
            try:
                self.read += os.read(self.fd, 65536)
            except OSError:  # EIO: nobody has it open any more
                break
        return self.process.wait(10)


class Bytes(unittest.TestCase):
    def test_nothing_flickers(self):
        """Each frame is one synchronized update; nothing is cleared that is not written at once; the cursor is hidden in it only."""
        terminal = Terminal(command("two-hundred-80x24", 12))
        self.assertEqual(terminal.read_all(), 0)
        sent = terminal.read
        self.assertEqual(sent.count(BEGIN), sent.count(END))
        outside = re.sub(re.escape(BEGIN) + b".*?" + re.escape(END), b"", sent, flags=re.DOTALL)
        self.assertEqual(outside, b"\r\033[K")
        for frame in re.findall(re.escape(BEGIN) + b"(.*?)" + re.escape(END), sent, flags=re.DOTALL):
            self.assertRegex(frame, rb"(?s)^\x1b\[\?25l.*25h$")
            self.assertEqual(frame.count(b"\033[?25l"), 1)
        for never in (b"\033[2J", b"\033[H", b"\033[?1049h"):
            self.assertNotIn(never, sent)
        self.assertLess(len(sent), 12 * 2500)

    def test_a_frame_that_stays_is_not_sent_again(self):
        """Of twenty looks at the same moment one is drawn, and one for each line from standard error."""
        terminal = Terminal([SHOW, "5", "2", "0", "0", "20"])
        self.assertEqual(terminal.read_all(), 0)
        self.assertLessEqual(terminal.read.count(BEGIN), 1 + 5)

    def test_a_terminal_that_takes_nothing(self):
        """Nobody reads for longer than the run takes: it ends all the same. What is read then is whole."""
        terminal = Terminal([SHOW, "200", "200", "50", "20000", "12"], width=200, height=60)
        self.assertEqual(terminal.process.wait(30), 0)
        terminal.read_all(2)
        self.assertIn(BEGIN, terminal.read)

    def test_a_terminal_that_goes(self):
        terminal = Terminal(["sh", "-c", "trap '' HUP; exec \"$@\"", "sh", *command("two-hundred-80x24", 40)])
        self.assertTrue(select.select([terminal.fd], [], [], 30)[0])
        os.read(terminal.fd, 4096)
        os.close(terminal.fd)
        self.assertEqual(terminal.process.wait(30), 0)

    def test_no_color(self):
        for value, colours in (("", True), ("1", False), ("0", False)):
            terminal = Terminal(command("five-failed-80x24", 1), {"NO_COLOR": value})
            self.assertEqual(terminal.read_all(), 0)
            self.assertEqual(b"\033[31m" in terminal.read, colours, value)

    def test_where_no_frame_can_be_drawn(self):
        for term in ("dumb", "no-such-terminal", ""):
            terminal = Terminal(command("five-80x24", 1), {"TERM": term})
            self.assertEqual(terminal.read_all(), 2, term)
            self.assertEqual(terminal.read, b"")
        done = subprocess.run(command("five-80x24", 1), env=ENVIRONMENT, capture_output=True, check=False)
        self.assertEqual((done.returncode, done.stdout), (2, b""))

    def test_each_terminal_is_sent_what_it_understands(self):
        """A synchronized update where there are private modes, padding nowhere, and to a VT52 no sequence of others."""
        for term, in_sync in (("xterm", True), ("linux", True), ("tmux-256color", True), ("vt220", True), ("vt100", True), ("ansi", False),
                              ("sun", False), ("vt52", False)):
            terminal = Terminal(command("five-80x24", 4), {"TERM": term})
            self.assertEqual(terminal.read_all(), 0, term)
            self.assertIn(b"batch 1", terminal.read, term)
            self.assertEqual((BEGIN in terminal.read, END in terminal.read), (in_sync, in_sync), term)
            self.assertNotIn(b"$<", terminal.read, term)
            if term == "vt52":
                self.assertNotIn(b"\033[", terminal.read)

    def test_ascii(self):
        terminal = Terminal(command("five-80x24", 1), {"LC_ALL": "C"})
        self.assertEqual(terminal.read_all(), 0)
        self.assertTrue(terminal.read.isascii() and b"[########" in terminal.read.replace(b"\033[32m", b""))


if __name__ == "__main__":
    unittest.main(verbosity=2)
