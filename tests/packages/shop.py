# SPDX-License-Identifier: LGPL-2.1-or-later
"""A set on a throw-away host with systemd and both packages, and a run of it that goes on by itself."""
import re

SET, GUESTS = "night-shop", ["web-0", "web-1"]
DAEMON = "virt-reimaged.service"


def wait_libvirt(host):
    host.wait_for(lambda: host.run("virsh", "list").status == 0, 30, "libvirt answers")


def open_shop(host, debs):
    """Two guests on 1.0.0, in a set, and 2.0.0 is there for them; a run rests for a while between the two."""
    wait_libvirt(host)
    host.install(debs, *debs.names)
    for guest in GUESTS:
        host.add_guest(guest)
    host.publish("1.0.0", "2.0.0")
    host.add_set(SET, GUESTS, pause="PT5S")
    return host


def show(host, unit, key):
    return host("systemctl", "show", "--value", "-p", key, unit).strip()


def job_units(host):
    return re.findall(r"virt-reimage-job@\S+\.service", host("systemctl", "list-units", "--plain", "--no-legend", "virt-reimage-job@*"))


def begin_run(host):
    """In the middle of the swap of its first guest; the process of the run."""
    host.reimage("upgrade", SET, "--detach")
    host.wait_for(lambda: swapped(host) == 1, 30, "a guest was swapped")
    return run_processes(host)


def swapped(host):
    return sum("2.0.0" in host.booted_versions(guest) for guest in GUESTS)


def run_processes(host):
    """Those of runs that go on by themselves, in units of jobs."""
    pids = [pid for unit in job_units(host)
            for pid in host.read(f"/sys/fs/cgroup{show(host, unit, 'ControlGroup')}/cgroup.procs").split() if is_worker(pid)]
    assert pids
    return sorted(pids)


def is_worker(pid):
    try:
        with open(f"/proc/{pid}/cmdline", "rb") as file:
            return b"--worker-fd" in file.read()
    except (FileNotFoundError, ProcessLookupError):
        return False


def run_status(host):
    runs = host.reimage_json("history", SET)["runs"]
    return runs[0]["runningStatus"]["code"] if runs else None


def wait_done(host):
    host.wait_for(lambda: host.versions(SET) == ["2.0.0"] * 2 and run_status(host) == "Completed", 60, "the run is done")
    for guest in GUESTS:
        assert host.booted_versions(guest) == ["1.0.0", "2.0.0"], "each guest was swapped once"
