# SPDX-License-Identifier: LGPL-2.1-or-later
"""A set on a throw-away host with systemd and both packages, and a run of it that goes on by itself."""
import re

SET, GUESTS = "night-shop", ["web-0", "web-1"]
DAEMON = "virt-reimaged.service"


def wait_libvirt(host):
    host.wait_for(lambda: host.run("virsh", "list").status == 0, 30, "libvirt answers")


def open_shop(host, debs):
    """Two guests on 1.0.0, in a set, and 2.0.0 is there for them."""
    wait_libvirt(host)
    host.install(debs, *debs.names)
    for guest in GUESTS:
        host.add_guest(guest)
    host.publish("1.0.0", "2.0.0")
    host.add_set(SET, GUESTS)
    return host


def show(host, unit, key):
    return host("systemctl", "show", "--value", "-p", key, unit).strip()


def job_units(host):
    return re.findall(r"virt-reimage-job@\S+\.service", host("systemctl", "list-units", "--plain", "--no-legend", "virt-reimage-job@*"))


def begin_run(host):
    """It swaps its canary, and then waits for a person; the process of the run."""
    host.reimage("upgrade", SET, "--canary", GUESTS[0], "--detach")
    host.wait_for(lambda: swapped(host) == 1, 30, "a guest was swapped")
    return run_processes(host)


def finish_run(host, once=True):
    """A process goes on with it already: to promote would begin one, too. once: no guest has booted but by its swap."""
    host.wait_for(lambda: workers(host), 60, "a process goes on with the run")
    host.wait_for(lambda: host.run("virt-reimage", "promote", SET).status == 0, 60, "the canary is done")
    wait_done(host, once)


def swapped(host):
    return sum("2.0.0" in host.booted_versions(guest) for guest in GUESTS)


def workers(host):
    """Processes of runs that go on by themselves, in units of jobs."""
    found = []
    for unit in job_units(host):
        path = f"/sys/fs/cgroup{show(host, unit, 'ControlGroup')}/cgroup.procs"
        try:
            found += [pid for pid in host.read(path).split() if is_worker(pid)]
        except FileNotFoundError:  # it has ended meanwhile
            pass
    return sorted(found)


def run_processes(host):
    pids = workers(host)
    assert pids
    return pids


def is_worker(pid):
    try:
        with open(f"/proc/{pid}/cmdline", "rb") as file:
            return b"--worker-fd" in file.read()
    except (FileNotFoundError, ProcessLookupError):
        return False


def run_status(host):
    runs = host.reimage_json("history", SET)["runs"]
    return runs[0]["runningStatus"]["code"] if runs else None


def wait_done(host, once=True):
    host.wait_for(lambda: host.versions(SET) == ["2.0.0"] * 2 and run_status(host) == "Completed", 60, "the run is done")
    for guest in GUESTS:
        host.wait_boot(guest, "2.0.0")
        assert not once or host.booted_versions(guest) == ["1.0.0", "2.0.0"], "each guest was swapped once"
