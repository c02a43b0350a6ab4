# SPDX-License-Identifier: LGPL-2.1-or-later
"""The acceptance test: what "First light" must show, on five real Linux guests, in this order."""

import os
import re
import signal
import subprocess
import time

from proof import assert_same_machines, rebooted

ALL = [f"test-{i}" for i in range(5)]


def exec_times(trace):
    """Wall-clock seconds of each program that was started, from strace -ttt."""
    times = []
    for line in trace.read_text().splitlines():
        match = re.match(r"\d+\s+(\d+\.\d+) execve\(\"([^\"]+)\"", line)
        if match:
            times.append((float(match[1]), match[2]))
    return times


def off_windows(lab, run_id):
    """(begin, end) in seconds: off until running, for each swap of a run."""
    windows = []
    for (swap,) in lab.query("SELECT id FROM swaps WHERE run_id = ?", run_id):
        steps = dict(lab.query("SELECT name, MIN(at_us) FROM steps WHERE swap_id = ? GROUP BY name", swap))
        windows.append((steps["off"] / 1e6, steps["running"] / 1e6))
    return windows


def last_run(lab):
    return lab.query("SELECT id, status, error_code FROM runs ORDER BY seq DESC LIMIT 1")[0]


def test_fstab_by_device_name(lab):
    """Row B11: what a guest mounts by device name is read through its agent, and plan says it of that guest alone."""
    guest = lab.guest("test-0")
    lab.settle()
    guest.run("/bin/sh", "-c", "printf '/dev/vdb\\t/srv ext4 defaults 0 2\\nLABEL=x /x ext4\\n/dev/vda2 / ext4\\n' > /etc/fstab")
    found = [one for one in lab.json("plan", "test")["findings"] if one["id"] == "fstab-device-name"]
    assert [(one["domain"], one["severity"]) for one in found] == [("test-0", "warning")]
    assert "by device name: /dev/vdb on /srv, /dev/vda2 on /. " in found[0]["text"] and "UUID=" in found[0]["remedy"]
    guest.run("/bin/rm", "/etc/fstab")
    assert "fstab-device-name" not in [one["id"] for one in lab.json("plan", "test")["findings"]]


def test_upgrade(lab, tmp_path):
    """Rows A8, B1, B2, B3, B6, B7, D1, E1, E4, E10, E12, G1, G8, J3, J10, J11, J12, K4, L3: all five move to 2.0.0; nothing is started
    while a guest is off."""
    before = lab.facts()
    lab.script("publish", "good")
    plan = lab.json("plan", "test")
    assert [len(batch["instances"]) for batch in plan["batches"]] == [1, 1, 1, 1, 1]

    trace = tmp_path / "trace"
    command = ["strace", "-f", "-ttt", "-qq", "-e", "trace=execve", "-e", "signal=none", "-o", str(trace),
               *lab.command("upgrade", "test")]
    done = subprocess.run(command, env={**lab.env, "ASAN_OPTIONS": "detect_leaks=0"}, capture_output=True, text=True)
    print(done.stdout, done.stderr)
    assert done.returncode == 0
    after = lab.facts()
    assert set(lab.versions().values()) == {"2.0.0"}
    assert rebooted(before, after) == ALL
    assert_same_machines(before, after)

    run_id = last_run(lab)[0]
    started = exec_times(trace)
    assert sum("qemu-img" in program for _, program in started) == 5
    windows = off_windows(lab, run_id)
    assert len(windows) == 5
    for begin, end in windows:
        assert [program for at, program in started if begin <= at <= end] == []

    for name in ALL:
        disk = lab.first_disk(name)
        assert lab.os_disk(name) != disk
        off = max(end for _, end in windows)
        assert os.stat(disk).st_mtime < off, "generation 0 was written after its guest was off"
    history = lab.json("history", "test", "--run", run_id)
    assert history["runningStatus"]["code"] == "Completed"
    assert history["progress"]["successfulInstanceCount"] == 5
    for key in ("p50", "p95", "max"):
        assert history["times"]["offMs"][key] > 0 and history["times"]["osDownMs"][key] > 0
    view = lab.json("instance-view", "test", "test-2")
    assert view["latestModelApplied"] is True


def test_nothing_left_to_do(lab):
    """Row D18: those on the newest are not touched."""
    before = lab.facts()
    lab.run("upgrade", "test")
    assert rebooted(before, lab.facts()) == []


def test_rollback_of_one_and_forward_again(lab):
    """Rows B4, B5, F6, G5: one guest goes back, and forward to a kept generation; its old disk is sealed meanwhile."""
    before = lab.facts()
    lab.run("rollback", "test", "test-3")
    after = lab.facts()
    assert rebooted(before, after) == ["test-3"]
    assert after["test-3"]["inside"]["version"] == "1.0.0"
    assert lab.os_disk("test-3") == lab.first_disk("test-3")
    assert_same_machines(before, after)

    second = before["test-3"]["disks"]["vda"]
    kept = lab.disk_facts(second)
    assert kept["mode"] == "0400" and kept["uid"] == 0
    lab.run("rollback", "test", "test-3", "--to-generation", "1")
    assert lab.versions()["test-3"] == "2.0.0"
    assert lab.os_disk("test-3") == second


def bad_version(lab, kind):
    before = lab.facts()
    first = {name: lab.disk_facts(lab.first_disk(name)) for name in ALL}
    lab.script("publish", "bad", kind)
    lab.set_health_timeout(lab.SHORT)
    done = lab.run("upgrade", "test", status=3)
    lab.set_health_timeout(lab.AMPLE)
    code = "MaxUnhealthyUpgradedInstancePercentExceededInRollingUpgrade"
    assert code in done.stderr
    assert last_run(lab)[2] == code
    after = lab.facts()
    assert rebooted(before, after) == ["test-0"], "four guests never noticed"
    assert set(lab.versions().values()) == {"2.0.0"}
    assert_same_machines(before, after)
    assert {name: lab.disk_facts(lab.first_disk(name)) for name in ALL} == first
    assert "UNDONE" in lab.step_names("test-0")
    refused = lab.run("upgrade", "test", status=4)
    assert "--version" in refused.stderr


def test_bad_version_unhealthy(lab):
    """Rows E8, F1, F2, D4, J5, J6: the guest itself says Unhealthy."""
    bad_version(lab, "unhealthy")


def test_bad_version_without_agent(lab):
    """Rows F1, E4: it boots, but nobody answers."""
    bad_version(lab, "noagent")


def test_bad_version_that_does_not_boot(lab):
    """Rows F1, F11: the failed disk is kept for a post-mortem."""
    bad_version(lab, "noboot")
    failed = lab.query("SELECT path FROM generations WHERE uuid = ? AND state = 3", lab.uuid("test-0"))
    assert len(failed) == 1 and os.path.exists(failed[0][0]), "of three that failed the last one is kept (retention.failedDisks)"


def test_rollback_of_the_set(lab):
    """Rows F4, G5, F6: all five go back by one command; nothing was copied."""
    before = lab.facts()
    run = lab.query("SELECT id FROM runs WHERE kind = 0 AND status = 2 ORDER BY seq DESC LIMIT 1")[0][0]
    lab.run("rollback", "test", "--all", "--run", run)
    after = lab.facts()
    assert set(lab.versions().values()) == {"1.0.0"}
    assert_same_machines(before, after)


def test_kill_in_the_middle(lab):
    """Rows B17, F10: kill -9 while test-1 is off; the next command recovers, and then goes on with those that are left."""
    before = lab.facts()
    count = lab.swaps()
    process = lab.start("upgrade", "test", "--version", "2.0.0")
    lab.wait_for_step(process, "test-1", "off", count + 1)
    process.send_signal(signal.SIGKILL)
    process.wait()
    process.stdout.close()
    lab.run("recover", "test")
    assert lab.open_swaps() == 0
    assert last_run(lab)[1] == 3  # Faulted
    lab.settle()
    versions = lab.versions()
    assert versions["test-0"] == "2.0.0" and versions["test-1"] in ("1.0.0", "2.0.0")
    for name in ALL:
        on_new = lab.os_disk(name) != lab.first_disk(name)
        assert versions[name] == ("2.0.0" if on_new else "1.0.0")
    boot = lab.facts()["test-0"]["inside"]["boot_id"]
    lab.run("upgrade", "test", "--version", "2.0.0")
    after = lab.facts()
    assert set(lab.versions().values()) == {"2.0.0"}
    assert after["test-0"]["inside"]["boot_id"] == boot, "test-0 was done already"
    assert_same_machines(before, after)


def test_interrupt_once(lab):
    """Rows G2, I4: the batch in flight is finished, no other is begun."""
    count = lab.swaps()
    before = lab.facts()
    process = lab.start("reimage", "test", "--all")
    lab.wait_for_step(process, "test-0", "stop-asked", count)
    lab.interrupt(process)
    assert lab.end(process) == 1
    lab.settle()
    after = lab.facts()
    assert rebooted(before, after) == ["test-0"]
    assert lab.step_names("test-0")[-1] == "COMMITTED"
    assert last_run(lab)[1] == 1  # Cancelled
    assert_same_machines(before, after)


def test_interrupt_twice(lab):
    """Rows G2, F4: the guest in flight goes back to the disk that it had."""
    count = lab.swaps()
    before = lab.facts()
    process = lab.start("reimage", "test", "--all")
    lab.wait_for_step(process, "test-0", "running", count)
    lab.interrupt(process)
    time.sleep(0.5)  # two signals at once are one
    lab.interrupt(process)
    assert lab.end(process) == 1
    lab.settle()
    after = lab.facts()
    assert after["test-0"]["disks"]["vda"] == before["test-0"]["disks"]["vda"]
    assert rebooted(before, after) == ["test-0"]
    assert lab.step_names("test-0")[-1] == "UNDONE"
    assert lab.open_swaps() == 0
    assert_same_machines(before, after)
