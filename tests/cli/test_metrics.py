# SPDX-License-Identifier: LGPL-2.1-or-later
"""J9: the metrics, read by the parser that Prometheus' own client has, their rules and their dashboard."""
import json
import os
import re
import shutil
import signal
import sqlite3
import subprocess
import threading
import time
import uuid

import pytest
from prometheus_client.openmetrics.parser import text_string_to_metric_families as open_metrics
from prometheus_client.parser import text_string_to_metric_families as prometheus

from program import FAILED, IMAGE, NO_LIBVIRT, REFUSED, TOP, USAGE, Program

RULES = os.path.join(TOP, "packaging/prometheus/virt-reimage.rules.yml")
RULES_TESTS = [os.path.join(TOP, "tests/cli", name) for name in ("virt-reimage.rules.test.yml", "virt-reimage-days.rules.test.yml")]
DASHBOARD = os.path.join(TOP, "packaging/grafana/virt-reimage.json")
PHASES = ("prepare", "stop", "switch", "start", "healthy")
MEASURES = ("off", "os_down", "off_restored")
COMMITTED_PHASE, COMMITTED, STARTED, UNKNOWN = 9, 5, "STARTED", 8
ENDED_BY_POLICY = "MaxUnhealthyUpgradedInstancePercentExceededInRollingUpgrade"


def samples_of(families):
    return {(sample.name, frozenset(sample.labels.items())): sample.value for family in families for sample in family.samples}


class Metrics:
    def __init__(self, text):
        assert text.endswith("\n# EOF\n")
        self.families = {family.name: family for family in open_metrics(text)}
        self.samples = samples_of(self.families.values())

    def __call__(self, name, **labels):
        return self.samples[(f"virt_reimage_{name}", frozenset(labels.items()))]

    def with_value(self, name):
        """The labels of all samples of that name that are not 0."""
        return [dict(labels) for (sample, labels), value in self.samples.items() if sample == f"virt_reimage_{name}" and value]


def metrics(program):
    return Metrics(program("-c", NO_LIBVIRT, "metrics").out)


def change(program, *statements):
    database = sqlite3.connect(os.path.join(program.root, "state.db"))
    for statement, *arguments in statements:
        database.execute(statement, arguments)
    database.commit()
    database.close()


def check(command, text=None):
    done = subprocess.run(command, input=text, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.fixture(name="real", scope="module")
def fixture_real(fleet):
    """Two runs of the set: an upgrade of all three guests, and a rollback of one."""
    program = Program(fleet.path("store"), fleet.dir)
    for version in ("1.0.0", "2.0.0", "3.0.0"):
        program.publish(version)
    program("set-define", "-", stdin=program.model("shop", [guest.name for guest in fleet]))
    program("upgrade", "shop", "--version", "2.0.0")
    program("rollback", "shop", fleet[0].name)
    return program


@pytest.fixture(name="moved")
def fixture_moved(real, program):
    """A copy of it, for each test to change."""
    shutil.copytree(real.root, program.root)
    return program


def test_what_status_and_history_say(moved):
    found = metrics(moved)
    assert found("sets") == 1
    assert found("instances", set="shop", image=IMAGE, version="2.0.0", state="settled") == 2
    assert found("instances", set="shop", image="unknown", version="unknown", state="settled") == 1
    assert [labels["kind"] for labels in found.with_value("runs_total")] == ["upgrade", "rollback"]
    assert found("last_run_status", set="shop", status="Completed") == 1
    assert found("last_run_instances", set="shop", outcome="successful") == 1
    assert found("last_run_instances", set="shop", outcome="skipped") == 2
    assert found("image_versions", image=IMAGE, state="eligible") == 3
    assert found("generations", set="shop", state="current") == 3
    assert found("run_open", set="shop") == 0 and not found.with_value("set_attention")
    assert abs(found("last_success_timestamp_seconds", set="shop", kind="upgrade") - time.time()) < 300
    runs = [moved.json("history", "shop", "--run", run["runId"])["times"] for run in moved.json("history", "shop")["runs"]]
    for metric, label, names in (("phase", "phase", PHASES), ("downtime", "measure", MEASURES[:2])):
        for name in names:
            key = "osDownMs" if name == "os_down" else f"{name}Ms"
            count = found(f"swap_{metric}_seconds_count", set="shop", **{label: name})
            assert count == sum(run[key]["count"] for run in runs), name
            assert found(f"swap_{metric}_seconds_sum", set="shop", **{label: name}) <= sum(
                run[key]["count"] * (run[key]["max"] or 0) for run in runs) / 1000
    assert found("swap_phase_seconds_count", set="shop", phase="prepare") == 3  # these guests are off, so nothing else was timed


def test_space_is_what_the_file_system_says(moved):
    found = metrics(moved)

    def blocks(top):
        return sum(os.lstat(os.path.join(folder, name)).st_blocks * 512
                   for folder, _, names in os.walk(os.path.join(moved.root, top)) for name in names if name != "image.json")

    assert found("store_images_bytes") == blocks("images") > 0
    assert found("store_disks_bytes") == blocks("disks") > 0
    room = os.statvfs(moved.root)
    assert found("store_size_bytes") == room.f_blocks * room.f_frsize
    assert abs(found("store_free_bytes") - room.f_bavail * room.f_frsize) < 1 << 30


def test_the_older_format_has_the_same_and_promtool_finds_nothing(moved):
    text = moved("metrics", "--prometheus").out
    assert "# EOF" not in text and "# UNIT" not in text
    old, new = samples_of(prometheus(text)), metrics(moved).samples
    differ = {key for key in old | new.keys() if old.get(key) != new.get(key)}
    assert {name for name, _ in differ} <= {"virt_reimage_store_free_bytes"}
    check(["promtool", "check", "metrics"], text)


def test_nothing_is_written_and_libvirt_is_not_asked(moved):
    before = moved.snapshot()
    moved("-c", NO_LIBVIRT, "metrics")
    assert moved.snapshot() == before
    environment = {**os.environ, "ASAN_OPTIONS": "detect_leaks=0"}  # which cannot be under strace
    trace = subprocess.run(["strace", "-f", "-e", "trace=connect", *moved.command("metrics")], capture_output=True, text=True, check=True,
                           env=environment)
    assert "libvirt" not in trace.stderr


def test_they_are_there_while_another_process_writes(moved):
    database = sqlite3.connect(os.path.join(moved.root, "state.db"), isolation_level=None)
    database.execute("BEGIN IMMEDIATE")
    try:
        begun = time.monotonic()
        assert metrics(moved)("sets") == 1
        assert time.monotonic() - begun < 5
    finally:
        database.close()


def test_no_store_yet(program):
    assert program.root in program("metrics", status=FAILED).error()


def test_what_comes_from_outside_is_escaped(moved):
    change(moved, ("UPDATE generations SET version = ? WHERE version = '2.0.0'", 'a"b\\nc\nd\x1b[31m'))  # a backslash and an n, and a newline
    (labels,) = [labels for labels in metrics(moved).with_value("instances") if labels["image"] == IMAGE]
    assert labels["version"] == 'a"b\\nc?d?[31m'


# --- what needs a person ----------------------------------------------------------------------------------


def test_an_unknown_instance(moved):
    change(moved, ("UPDATE swaps SET state = ? WHERE seq = (SELECT MAX(seq) FROM swaps)", UNKNOWN))
    found = metrics(moved)
    assert found.with_value("set_attention") == [{"set": "shop", "reason": "unknown_instance"}]
    assert [labels["state"] for labels in found.with_value("instances")].count("unknown") == 1
    assert found("open_swaps", set="shop") == 1


STATE = {"automaticRollback": True, "walk": False, "ignored": [], "point": "paused", "hold": "paused", "holdText": "until 'resume'",
         "holdUntil": 0, "pauseRequested": True, "locked": False, "rollbackAllowed": True}


def add_run(program, number, status, error=None, state=None, open_run=False, swap=None):
    now = int(time.time() * 1000000)
    change(program, ("INSERT INTO runs (id, set_name, kind, status, image, version, started_by, started_us, completed_us, error_code,"
                     " detached, state) VALUES (?, 'shop', 0, ?, ?, '3.0.0', 'somebody', ?, ?, ?, 1, ?)",
                     f"run-{number}", status, IMAGE, now, 0 if open_run else now, error, json.dumps(state) if state else None))
    if swap:
        change(program, ("INSERT INTO run_instances (run_id, ordinal, uuid, domain, batch, phase, swap_id) VALUES"
                         " (?, 0, '00000000-0000-0000-0000-000000000000', 'd', 1, 10, ?)", f"run-{number}", swap),
               ("INSERT INTO steps (swap_id, name, at_us, at_ms, boot_id) VALUES (?, ?, 0, 0, 'x')", swap, STARTED))


def test_a_run_that_is_held_and_one_whose_process_is_gone(moved):
    add_run(moved, 1, 0, state=STATE, open_run=True)
    found = metrics(moved)
    assert found("run_open", set="shop") == 1
    assert found.with_value("run_held") == [{"set": "shop", "hold": "paused"}]
    assert found.with_value("set_attention") == [{"set": "shop", "reason": "interrupted_run"}]
    assert abs(found("run_started_timestamp_seconds", set="shop") - time.time()) < 300
    change(moved, ("UPDATE runs SET completed_us = started_us, status = 1 WHERE id = 'run-1'",))
    assert not metrics(moved).with_value("run_held")


def test_a_version_that_failed(moved):
    """... by the rule that upgrade goes by, before and after."""
    database = sqlite3.connect(os.path.join(moved.root, "state.db"))
    (swap,) = database.execute("SELECT id FROM swaps LIMIT 1").fetchone()
    database.close()
    add_run(moved, 0, 3, "InternalExecutionError", swap=swap)  # says nothing of the version
    add_run(moved, 1, 3, ENDED_BY_POLICY)  # nobody ran on it
    assert not metrics(moved).with_value("version_blocked")
    moved("upgrade", "shop", "--dry-run")
    add_run(moved, 2, 3, ENDED_BY_POLICY, swap=swap)
    assert metrics(moved).with_value("version_blocked") == [{"set": "shop", "image": IMAGE, "version": "3.0.0"}]
    assert "failed in run run-2" in moved("upgrade", "shop", "--dry-run", status=REFUSED).error()
    add_run(moved, 3, 3, "InternalExecutionError", swap=swap)
    assert metrics(moved).with_value("version_blocked")
    add_run(moved, 4, 2)
    assert not metrics(moved).with_value("version_blocked")
    moved("upgrade", "shop", "--dry-run")


def test_a_model_that_cannot_be_read(moved):
    change(moved, ("UPDATE sets SET text = 'schemaVersion: 9999'",))
    assert metrics(moved).with_value("set_attention") == [{"set": "shop", "reason": "unreadable_model"}]


# --- many -------------------------------------------------------------------------------------------------


def fill(program, instances, runs):
    """Rows as runs of many instances leave them; each swap took 1 s to prepare, 2 s off, 4 s until its guest was healthy."""
    steps = (("begin", 0), ("PREPARED", 1000), ("stop-asked", 1000), ("off", 2000), ("STOPPED", 2000), ("SWITCHED", 2500), ("start-asked", 2500),
             ("running", 4000), ("STARTED", 4000), ("healthy", 6000), ("COMMITTED", 6000))
    ids = [str(uuid.uuid4()) for _ in range(instances)]
    database = sqlite3.connect(os.path.join(program.root, "state.db"))
    database.executemany("INSERT INTO instances (uuid, set_name, domain, ordinal, upgrade_domain) VALUES (?, 'shop', ?, ?, 0)",
                         ((one, f"many-{i}", i + 10) for i, one in enumerate(ids)))
    database.executemany("INSERT INTO generations (uuid, number, path, format, disk_type, image, version, ours, state, made_us) VALUES"
                         " (?, 1, '/x', 'qcow2', 'file', 'cheap', '1.0.0', 1, 1, 1)", ((one,) for one in ids))
    for run in range(runs):
        database.execute("INSERT INTO runs (id, set_name, kind, status, image, version, started_by, started_us, completed_us) VALUES"
                         " (?, 'shop', 0, 2, 'cheap', '2.0.0', 'x', 1, 2)", (f"many-{run}",))
        database.executemany("INSERT INTO run_instances (run_id, ordinal, uuid, domain, batch, phase, swap_id) VALUES (?, ?, ?, 'd', 1, ?, ?)",
                             ((f"many-{run}", i, one, COMMITTED_PHASE, f"{run}-{one}") for i, one in enumerate(ids)))
        database.executemany("INSERT INTO swaps (id, run_id, set_name, domain, uuid, os_target, rollback, from_number, to_number, state,"
                             " reached, backward, was_running) VALUES (?, ?, 'shop', 'd', ?, 'vda', 0, 0, 1, ?, ?, 0, 1)",
                             ((f"{run}-{one}", f"many-{run}", one, COMMITTED, COMMITTED) for one in ids))
        database.executemany("INSERT INTO steps (swap_id, name, at_us, at_ms, boot_id) VALUES (?, ?, 0, ?, 'b')",
                             ((f"{run}-{one}", name, at) for one in ids for name, at in steps))
    database.commit()
    database.close()


def test_a_thousand_instances_and_a_long_history(defined):
    """The times of docs/metrics.md, with room for AddressSanitizer and a machine that is busy."""
    runs = int(os.environ.get("VR_METRICS_RUNS", "20"))
    fill(defined, 1000, runs)

    def timed():
        begun = time.monotonic()
        return metrics(defined), time.monotonic() - begun

    found, seconds = timed()
    assert found("swap_downtime_seconds_count", set="shop", measure="off") == 1000 * runs
    assert found("swap_downtime_seconds_bucket", set="shop", measure="off", le="2.5") == 1000 * runs
    assert found("swap_downtime_seconds_bucket", set="shop", measure="off", le="1.0") == 0
    assert found("swap_downtime_seconds_sum", set="shop", measure="off") == 2000 * runs
    assert found("swap_downtime_seconds_sum", set="shop", measure="os_down") == 5000 * runs
    assert found("instances", set="shop", image=IMAGE, version="1.0.0", state="settled") == 1000
    print(f"not summed: {seconds:.2f} s")
    assert seconds < 20
    change(defined, ("UPDATE runs SET tallied = 1",))
    _, seconds = timed()
    print(f"summed: {seconds:.2f} s")
    assert seconds < 5


# --- a file -----------------------------------------------------------------------------------------------


@pytest.fixture(name="collector")
def fixture_collector(tmp_path):
    path = tmp_path / "collector"
    path.mkdir()
    return path


def test_a_file_is_replaced_as_a_whole(moved, collector):
    target = collector / "virt-reimage.prom"
    target.write_text("old")
    inode = target.stat().st_ino
    assert moved("metrics", "--output", str(target)).out == ""
    assert os.listdir(collector) == [target.name]
    assert target.stat().st_mode & 0o7777 == 0o644 and target.stat().st_ino != inode
    assert Metrics(target.read_text())("sets") == 1


def test_readers_never_see_half_of_it(moved, collector):
    """... while four write it, and each of those may be killed at any time; what they leave does not gather."""
    target = collector / "virt-reimage.prom"
    moved("metrics", "--output", str(target))
    done = threading.Event()
    seen = []

    def read():
        while not done.is_set():
            text = target.read_text()
            seen.append(text.startswith("# HELP") and text.endswith("# EOF\n"))

    reader = threading.Thread(target=read)
    reader.start()
    try:
        for _ in range(5):
            writers = [moved.start("metrics", "--output", str(target)) for _ in range(4)]
            for number, writer in enumerate(writers):
                time.sleep(0.01)
                if number % 2:
                    writer.send_signal(signal.SIGKILL)
            for number, writer in enumerate(writers):
                _, err = writer.communicate()
                assert writer.returncode in (0, -signal.SIGKILL) if number % 2 else writer.returncode == 0, err
            assert len(os.listdir(collector)) <= 2
    finally:
        done.set()
        reader.join()
    assert len(seen) > 20 and all(seen)
    (collector / f".{target.name}.virt-reimage").write_text("of one that was killed, and longer than the metrics are\n" * 10000)
    moved("metrics", "--output", str(target))
    assert os.listdir(collector) == [target.name]
    Metrics(target.read_text())


def test_a_file_that_cannot_be_written(moved, collector, monkeypatch):
    assert "is not a regular file" in moved("metrics", "--output", str(collector), status=USAGE).error()
    assert "is not a regular file" in moved("metrics", "--output", "/dev/null", status=USAGE).error()
    assert "is empty" in moved("metrics", "--output", "", status=USAGE).error()
    nowhere = moved("metrics", "--output", "/nonexistent/x.prom", status=FAILED)
    assert "/nonexistent" in nowhere.error()
    monkeypatch.setenv("VIRT_REIMAGE_ERROR_JSON", "1")
    said = moved("metrics", "--output", "/nonexistent/x.prom", status=FAILED).err
    assert '"code":"Io"' in said, said  # of NotFound the daemon says nothing: there is no store yet
    monkeypatch.undo()
    target = collector / "x.prom"
    os.symlink("/etc/passwd", collector / ".x.prom.virt-reimage")
    before = os.stat("/etc/passwd").st_mtime_ns
    assert "x.prom" in moved("metrics", "--output", str(target), status=FAILED).error()
    assert os.stat("/etc/passwd").st_mtime_ns == before and not target.exists()


def test_a_temp_file_of_somebody_else_is_refused(moved, collector):
    """They could change it after it has its name."""
    planted = collector / ".x.prom.virt-reimage"
    planted.write_text("mine")
    os.chown(planted, 65534, 65534)
    assert "not a file of ours" in moved("metrics", "--output", str(collector / "x.prom"), status=REFUSED).error()
    assert planted.read_text() == "mine" and not (collector / "x.prom").exists()


# --- rules, dashboard, documentation ----------------------------------------------------------------------


def names_in(expression):
    """Of metrics, in a query."""
    return set(re.findall(r"\bvirt_reimage_\w+", re.sub(r'"[^"]*"', "", expression)))


def known_names(program):
    """Those that the real output has, with the parts of a histogram."""
    families = metrics(program).families
    tails = {"counter": ["_total"], "histogram": ["_bucket", "_count", "_sum"], "gauge": [""]}
    return {name + tail for name, family in families.items() for tail in tails[family.type]}


def test_the_rules(moved):
    check(["promtool", "check", "rules", RULES])
    check(["promtool", "test", "rules", *RULES_TESTS])
    with open(RULES, encoding="utf-8") as file:
        text = file.read()
    expressions = re.findall(r"expr: (?:\|\n((?:      .*\n)+)|(.*))", text)
    used = set().union(*(names_in("".join(one)) for one in expressions))
    assert len(expressions) == 8 and used <= known_names(moved) and used
    tested = set()
    for path in RULES_TESTS:
        with open(path, encoding="utf-8") as file:
            tested.update(re.findall(r"alertname: (\w+)", file.read()))
    assert tested == set(re.findall(r"alert: (\w+)", text))


def test_the_dashboard(moved, tmp_path):
    """Each query is one, of metrics that there are; and each metric is to be seen, but for those that are labels or times for alerts."""
    with open(DASHBOARD, encoding="utf-8") as file:
        board = json.load(file)
    queries = [target["expr"] for panel in board["panels"] for target in panel["targets"]]
    variables = [one["definition"] for one in board["templating"]["list"] if one["type"] == "query"]
    used = set().union(*map(names_in, queries + variables))
    assert used <= known_names(moved)
    families = metrics(moved).families
    shown = {name for name in families if any(one.startswith(name) for one in used)}
    assert families.keys() - shown == {"virt_reimage_sets", "virt_reimage_set_defined_timestamp_seconds", "virt_reimage_image_versions"}
    rules = tmp_path / "queries.yml"
    rules.write_text(json.dumps({"groups": [{"name": "dashboard", "rules": [
        {"record": f"query:{i}", "expr": query.replace("$instance", ".*").replace("$set", ".*")} for i, query in enumerate(queries)]}]}))
    check(["promtool", "check", "rules", str(rules)])
    for panel in board["panels"]:
        for name, label in ((name, label) for target in panel["targets"] for name in names_in(target["expr"])
                            for label in re.findall(r"{{(\w+)}}", target["legendFormat"]) if label != "instance"):
            family = next(family for family in families if name.startswith(family))
            sample_labels = {key for sample in families[family].samples for key in sample.labels}
            assert not sample_labels or label in sample_labels, (panel["title"], name, label)


def test_the_documentation_has_every_metric(moved):
    with open(os.path.join(TOP, "docs/metrics.md"), encoding="utf-8") as file:
        text = file.read()
    named = set(re.findall(r"^\| `(virt_reimage_\w+)`", text, re.MULTILINE))
    families = metrics(moved).families
    assert named == {name + ("_total" if family.type == "counter" else "") for name, family in families.items()}


# --- sums: these go on with the guests themselves ----------------------------------------------------------


def test_runs_that_an_older_program_ended_count_once(real):
    """Counted from the history as long as they are in no sum; the next run that ends takes them in."""
    kept = metrics(real)
    change(real, ("UPDATE runs SET tallied = 0",), ("DELETE FROM run_tallies",), ("DELETE FROM span_tallies",))
    again = metrics(real)
    names = ("virt_reimage_runs_total", "virt_reimage_swap_")
    for key, value in kept.samples.items():
        if key[0].startswith(names):
            assert again.samples[key] == value, key
    real("upgrade", "shop", "--version", "3.0.0")
    found = metrics(real)
    assert found("runs_total", set="shop", kind="upgrade", status="Completed") == 2
    assert found("swap_phase_seconds_count", set="shop", phase="prepare") == kept("swap_phase_seconds_count", set="shop", phase="prepare") + 3


def test_sums_outlive_the_history(real, fleet):
    names = [guest.name for guest in fleet]
    before = metrics(real)("swap_phase_seconds_count", set="shop", phase="prepare")
    real("set-define", "-", stdin=real.model("shop", names, more="retention: {runs: 2, runsMaxAge: P1D, generations: 9}\n"))
    for _ in range(5):
        real("reimage", "shop", names[1])
    assert [run["operation"] for run in real.json("history", "shop")["runs"]].count("reimage") == 2
    found = metrics(real)
    assert found("runs_total", set="shop", kind="reimage", status="Completed") == 5
    assert found("swap_phase_seconds_count", set="shop", phase="prepare") == before + 5
