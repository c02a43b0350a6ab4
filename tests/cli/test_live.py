# SPDX-License-Identifier: LGPL-2.1-or-later
"""J8: the live view of real guests, in a real terminal (tmux)."""
import os
import re
import shlex
import subprocess
import time

import pytest

from lib import cheap_guest
from lib.daemon import Daemon
from program import BINARY, REFUSED, USAGE, crashing_image, wait_for

MIB = 1024 * 1024
BIG = 512 * MIB  # so much is copied that it can be seen
PAUSE = "    pauseTimeBetweenBatches: PT3S\n"
LONG_PAUSE = "    pauseTimeBetweenBatches: PT15S\n"  # who looks late finds the run in it
DOWN = r"^Now +batch \d+: \d (stops?|is off|are off|boots?|is probed|are probed)"
STAMP = r"\d{4}-\d\d-\d\d \d\d:\d\d:\d\d "


class Terminal:
    """A terminal of its own server, with a shell in it that says how each command ended."""

    def __init__(self, path, width, height, environment=None):
        self.socket = os.path.join(path, f"tmux-{width}x{height}-{time.monotonic_ns()}")
        clean = {name: value for name, value in os.environ.items() if name not in ("NO_COLOR", "TMUX")}
        self.environment = {**clean, "LC_ALL": "C.UTF-8", "PS1": "$ ", "VIRT_REIMAGE_SOCKET_DIR": "",
                            "ASAN_OPTIONS": "abort_on_error=1", **(environment or {})}
        self.tmux("-f", "/dev/null", "new-session", "-d", "-x", str(width), "-y", str(height), "/bin/sh")

    def tmux(self, *words):
        done = subprocess.run(["tmux", "-S", self.socket, *words], check=True, capture_output=True, text=True, timeout=30,
                              env=self.environment)
        return done.stdout

    def type(self, *keys):
        self.tmux("send-keys", *keys)

    def run(self, command):
        """command: words. Its end can be waited for."""
        self.type("-l", shlex.join(command) + "; echo ended-with=$?")
        self.type("Enter")

    def screen(self, *options):
        return self.tmux("capture-pane", "-p", *options)

    def all(self):
        """With what has scrolled away."""
        return self.screen("-S", "-")

    def wait(self, pattern, seconds=60, look=None):
        """The screen on which the pattern is."""
        end = time.monotonic() + seconds
        while True:
            seen = (look or self.screen)()
            if re.search(pattern, seen, re.MULTILINE):
                return seen
            assert time.monotonic() < end, f"{pattern!r} is not on the screen:\n{seen}"
            time.sleep(0.05)

    def wait_end(self, seconds=90):
        return int(re.search(r"^ended-with=(\d+)", self.wait(r"^ended-with=\d+", seconds, self.all), re.MULTILINE)[1])

    def close(self):
        subprocess.run(["tmux", "-S", self.socket, "kill-server"], check=False, capture_output=True, timeout=30)


@pytest.fixture(name="terminal")
def fixture_terminal(work):
    opened = []

    def make(width=80, height=24, environment=None):
        opened.append(Terminal(work, width, height, environment))
        return opened[-1]
    yield make
    for one in opened:
        one.close()


@pytest.fixture(scope="module", name="lab")
def fixture_lab(make_lab):
    return make_lab(5, "live", batch=40, upgrade_domains=2, policy=PAUSE)


@pytest.fixture(scope="module", name="pair")
def fixture_pair(make_lab):
    """Two that go together: where it does not matter what a run looks like for long."""
    return make_lab(2, "pair")


def number_of(request):
    return f"{10 + list(request.session.items).index(request.node)}.0.0"


@pytest.fixture(name="version")
def fixture_version(lab, request):
    """A version of the test's own, which no guest runs."""
    lab.program.publish(number_of(request))
    return number_of(request)


@pytest.fixture(name="pair_version")
def fixture_pair_version(pair, request):
    pair.program.publish(number_of(request))
    return number_of(request)


@pytest.fixture(name="slow_lab")
def fixture_slow_lab(lab):
    """... whose runs last long enough for several commands."""
    lab.define(batch=40, upgrade_domains=2, policy=LONG_PAUSE)
    yield lab
    lab.define(batch=40, upgrade_domains=2, policy=PAUSE)


def upgrade(lab, version, *options):
    return lab.program.command("upgrade", lab.set_name, "--version", version, *options)


def frames_of(text, lab):
    """How many frames, each with its title, are on what was captured."""
    return len(re.findall(rf"^upgrade of {lab.set_name} to cheap", text, re.MULTILINE))


@pytest.mark.parametrize("width, height", [(80, 24), (160, 50)])
def test_a_run_from_its_beginning_to_its_end(lab, version, terminal, width, height):
    """What runs, what it waits for and what to type are on one screen; its last frame stays, and nothing else of it."""
    shell = terminal(width, height)
    shell.run(upgrade(lab, version))
    moving = shell.wait(DOWN)
    print(moving)
    assert re.search(rf"^upgrade of {lab.set_name} to cheap {version} +run \d{{8}}-\d{{6}}-[0-9a-f]{{4}}$", moving, re.MULTILINE)
    assert re.search(r"^batch \d+ +[✓pPnsob?<]+  ", moving, re.MULTILINE)
    assert re.search(rf"^  {lab.set_name}-\d +\w+( off)? +\d\d:\d\d$", moving, re.MULTILINE)
    assert "Type     Ctrl-C  finishes the batch and ends the run; twice puts its guests back" in moving
    waiting = shell.wait(r"^Now +pause between two batches: goes on in 00:0[0-3]")
    print(waiting)
    assert re.search(r"\d of 5 done, 00:\d\d elapsed, (about \d+ s|some seconds) left", waiting)
    assert shell.wait_end() == 0
    text = shell.all()
    print(text)
    assert frames_of(text, lab) == 1, text
    assert "█" * 20 in text and "Ended    Completed: 5 done" in text and f"virt-reimage history {lab.set_name} --run" in text
    assert re.search(rf"^{STAMP}run \S+ Completed: 5 successful", text, re.MULTILINE)
    assert lab.versions() == lab.all_on(version)
    assert shell.tmux("display-message", "-p", "#{cursor_flag}").strip() == "1"


def test_another_process_sees_the_same(slow_lab, version, terminal):
    """--watch of a run that was detached, on a terminal and without one; Ctrl-C ends the view and not the run."""
    lab, shell, other = slow_lab, terminal(), terminal(100, 30)
    lab.program("upgrade", lab.set_name, "--version", version, "--detach")
    lines = lab.program.start("status", lab.set_name, "--watch")
    for one in (shell, other):
        one.run(lab.program.command("status", lab.set_name, "--watch"))
        one.wait(r"^Now +(batch \d|pause)")
    assert "Ctrl-C  ends this view only" in shell.wait(rf"virt-reimage pause {lab.set_name}  stops it at the end of the batch")
    other.type("C-c")
    assert other.wait_end() == 0
    lab.program("pause", lab.set_name)
    held = shell.wait(r"^Now +waits: paused: 'resume' goes on")
    print(held)
    assert re.search(rf"^Type +virt-reimage resume {lab.set_name}  it goes on", held, re.MULTILINE)
    assert "left" not in held.splitlines()[next(i for i, one in enumerate(held.splitlines()) if " of 5 done" in one)]
    out = lines.wait_line("waits: paused")  # it looks now and then
    lab.program("resume", lab.set_name)
    assert shell.wait_end() == 0
    assert "Ended    Completed: 5 done" in shell.screen()
    rest, err = lines.communicate(timeout=60)
    out += rest
    assert lines.returncode == 0 and "Sanitizer" not in err, err
    assert all(re.match(STAMP, line) for line in out.splitlines()), out
    assert f"  {lab.names[2]:16} done" in out and "Completed" in out.splitlines()[-1]
    assert "\033" not in out
    shown = lab.program("status", lab.set_name, "--watch").out  # it has ended: how
    assert "5 done" in shown and "Completed" in shown


def test_ctrl_c_says_what_the_choices_are(lab, version, terminal):
    """Once: the batch is finished. What is said of it stands above the frame, which stays whole."""
    shell = terminal()
    shell.run(upgrade(lab, version))
    shell.wait(DOWN)
    shell.type("C-c")
    text = shell.wait(r"^Type +Ctrl-C  again puts the guests in flight back")
    print(text)
    assert "then the run ends" in text and "finishing the batch in flight; Ctrl-C again puts its guests back now" in text
    assert shell.wait_end() == 1
    text = shell.all()
    print(text)
    assert frames_of(text, lab) == 1 and "Ended    Cancelled: 3 not touched, 2 done" in text
    assert "error: upgrade of" in text


def test_what_failed_is_on_the_screen(lab, version, terminal):
    """The guest, its reason, and what to type then."""
    number = version.replace(".0.0", ".1.0")
    lab.program("image-publish", "cheap", number, crashing_image(lab.program, number))
    shell = terminal()
    shell.run(upgrade(lab, number))
    status = shell.wait_end()
    text = shell.all()
    print(text)
    assert status == 3
    assert re.search(rf"^Failed +{lab.set_name}-\d \(put back\): ", text, re.MULTILINE)
    assert "Ended    Faulted: 3 not touched, 2 put back" in text
    assert f"virt-reimage image-exclude cheap {number}  if it is bad" in text and f"virt-reimage retry {lab.set_name}" in text and f"virt-reimage history {lab.set_name} --run" in text


def test_it_follows_a_resize(lab, version, terminal):
    """Narrower, lower, wider: there is one frame, and it fits."""
    shell = terminal(100, 30)
    shell.run(upgrade(lab, version))
    shell.wait(r"^Now +batch \d")
    for width, height in ((50, 20), (40, 12), (120, 40)):
        shell.tmux("resize-window", "-x", str(width), "-y", str(height))
        time.sleep(1)
        text = shell.wait(r"^Now +\S")
        assert frames_of(text, lab) == 1, text
    assert shell.wait_end() == 0
    assert frames_of(shell.screen(), lab) == 1


def test_through_the_daemon(pair, pair_version, terminal):
    """The job draws on its client's terminal, follows its size, and hears its Ctrl-C."""
    daemon = Daemon(os.path.join(os.path.dirname(BINARY), "virt-reimaged"), pair.program.root)
    try:
        daemon.start()
        shell = terminal(environment={"VIRT_REIMAGE_SOCKET_DIR": daemon.dir})
        shell.run(upgrade(pair, pair_version))
        shell.wait(r"^Now +batch 1")
        shell.tmux("resize-window", "-x", "60", "-y", "20")
        time.sleep(1)
        text = shell.wait(r"^Now +\S")
        assert frames_of(text, pair) == 1, text
        shell.type("C-c")
        shell.wait("finishing the batch in flight")
        assert shell.wait_end() == 1
        assert "Ended    Cancelled: 2 done" in shell.screen() and frames_of(shell.screen(), pair) == 1
        shell.run(pair.program.command("status", pair.set_name, "--watch"))
        shell.wait(r"^ended-with=1[\s\S]*^Ended [\s\S]*^ended-with=0")
        assert any("upgrade" in job for job in daemon.jobs()) and any("--watch" in job for job in daemon.jobs())
    finally:
        daemon.clean_up()


def test_who_only_reads_keeps_no_job(pair):
    """The daemon has few jobs for them, and a run may take days."""
    environment = {**pair.program.environment, "VIRT_REIMAGE_JOB": "ro", "VIRT_REIMAGE_JOB_ROOT": pair.program.root}
    done = subprocess.run([BINARY, "status", pair.set_name, "--watch"], env=environment, capture_output=True, text=True, check=False,
                          timeout=60)
    assert done.returncode == REFUSED and "--watch is not for the read-only socket" in done.stderr
    assert "JSON" in pair.program("status", pair.set_name, "--watch", "--json", status=USAGE).error().upper()


def test_a_copy_is_shown_with_its_rate(pair, pair_version, terminal):
    """The new disks are full clones: how much of them is there, and how fast it comes. strace makes the copy slow enough to be seen."""
    number = pair_version.replace(".0.0", ".1.0")
    raw = cheap_guest.write_os_disk(pair.program.path(f"{number}.raw"), number, size=BIG)
    with open(raw, "r+b") as disk:
        for at in range(MIB, BIG, MIB):
            disk.seek(at)
            disk.write(os.urandom(MIB))
    pair.program("image-publish", "cheap", number, raw)
    os.unlink(raw)
    pair.define(kind="full")
    shell = terminal(environment={"ASAN_OPTIONS": "abort_on_error=1:detect_leaks=0"})  # a leak is not looked for beside strace
    shell.run(["strace", "-f", "--seccomp-bpf", "-qq", "-o", "/dev/null", "-e", "trace=io_uring_enter",
               "-e", "inject=io_uring_enter:delay_exit=50ms", *upgrade(pair, number)])
    text = shell.wait(r"^  \S+ +prepares +\d\d:\d\d  copied \d+\.\d MiB of \d+\.\d MiB, \d")
    print(text)
    assert re.search(r"^batch 1  pp  2 prepare$", text, re.MULTILINE)
    assert shell.wait_end() == 0
    pair.define()
    pair.program("image-exclude", "cheap", number)


@pytest.mark.parametrize("options, environment", [([], {"TERM": "dumb"}), ([], {"TERM": "no-such-terminal"}), (["--plain"], {}),
                                                  (["--quiet"], {}), (["--json"], {})])
def test_lines_where_no_frame_can_be_drawn(pair, pair_version, terminal, options, environment):
    """A dumb terminal, an unknown one, --plain: lines with date and time. Nothing moves the cursor."""
    shell = terminal(120, 40)
    shell.run(["env", *(f"{name}={value}" for name, value in environment.items()), *upgrade(pair, pair_version, *options)])
    assert shell.wait_end() == 0
    text = shell.all()
    assert "Now  " not in text and "░" not in text
    if not options or "--plain" in options:
        assert re.search(rf"^{STAMP}batch 1 ", text, re.MULTILINE) and re.search(rf"^{STAMP}run \S+ Completed", text, re.MULTILINE)


def test_in_the_background_it_draws_nothing(pair, pair_version, terminal):
    """Ctrl-Z leaves the shell its line and its cursor, bg leaves it alone, and fg draws one frame below what it wrote; with & there are lines."""
    shell = terminal(100, 40)
    shell.type("-l", "stty tostop; set -m; " + shlex.join(upgrade(pair, pair_version)))
    shell.type("Enter")
    shell.wait(r"^Now +batch 1")
    shell.type("C-z")
    shell.wait(r"Stopped")
    assert shell.tmux("display-message", "-p", "#{cursor_flag}").strip() == "1"
    shell.type("-l", "clear; bg")
    shell.type("Enter")
    cheap_guest.wait_for(lambda: pair.status()["runningStatus"]["code"] == "Completed", 90, "the run ends in the background")
    assert frames_of(shell.screen(), pair) == 0
    shell.type("-l", "clear; fg; echo ended-with=$?")
    shell.type("Enter")
    shell.wait_end()
    assert frames_of(shell.screen(), pair) <= 1

    shell = terminal(100, 40)
    shell.type("-l", "set -m; " + shlex.join(pair.program.command("rollback", pair.set_name, "--all")) + " & wait; echo ended-with=$?")
    shell.type("Enter")
    assert shell.wait_end() == 0
    text = shell.all()
    assert "Now  " not in text and re.search(rf"^{STAMP}batch 1 ", text, re.MULTILINE)


def test_no_color(pair, pair_version, terminal):
    """no-color.org: any value but the empty one."""
    coloured, plain = terminal(), terminal()
    pair.program("upgrade", pair.set_name, "--version", pair_version)
    coloured.run(["env", "NO_COLOR=", *pair.program.command("status", pair.set_name, "--watch")])
    plain.run(["env", "NO_COLOR=0", *pair.program.command("status", pair.set_name, "--watch")])
    for one in (coloured, plain):
        assert one.wait_end() == 0
    assert "\033[32m" in coloured.screen("-e") and "\033[" not in plain.screen("-e")


def test_a_terminal_that_stops_does_not_stop_the_run(pair, pair_version, terminal):
    """Ctrl-S: nobody reads any more, and the run ends all the same."""
    shell = terminal()
    shell.run(upgrade(pair, pair_version))
    shell.wait(r"^Now +batch 1")
    shell.type("C-s")
    cheap_guest.wait_for(lambda: pair.status()["runningStatus"]["code"] == "Completed", 90, "the run ends unseen")
    shell.type("C-q")
    assert shell.wait_end() == 0
    assert frames_of(shell.screen(), pair) == 1
    assert pair.versions() == pair.all_on(pair_version)


def test_a_terminal_that_goes_is_a_ctrl_c(pair, pair_version, terminal):
    """As it was: the batch comes to its end, and nobody hangs."""
    shell = terminal()
    shell.run(upgrade(pair, pair_version))
    shell.wait(r"^Now +batch 1")
    shell.close()
    status = wait_for(pair, lambda status: status["openRun"] is None and status["lockHolder"] is None)
    assert status["progress"]["successfulInstanceCount"] == 2
