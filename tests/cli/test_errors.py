# SPDX-License-Identifier: LGPL-2.1-or-later
"""What an error says and how: one form, on a terminal and in JSON; each code of the table, produced through the command line."""
import os
import re
import signal
import subprocess

import pytest

from program import (BINARY, FAILED, IMAGE, NO_LIBVIRT, OWNED, PERSON, POLICY, REFUSED, TOP, USAGE, Program, crashing_image,
                     error_line, error_parts, wait_stopped)

READ_ONLY = "qemu:///system?socket=/run/libvirt/libvirt-sock-ro"
RELAY = """#!/usr/bin/python3
import os, selectors, socket
far = socket.socket(socket.AF_UNIX)
far.connect("/run/libvirt/libvirt-sock")
to = {0: far.fileno(), far.fileno(): 1}
chosen = selectors.DefaultSelector()
for one in to:
    chosen.register(one, selectors.EVENT_READ)
while True:
    for key, _ in chosen.select():
        piece = os.read(key.fd, 65536)
        if not piece:
            raise SystemExit
        os.write(to[key.fd], piece)
"""
PRODUCED = {}  # code: exit status


def error_of(program, status, *arguments, **options):
    """The error of a command as the daemon reads it."""
    os.environ["VIRT_REIMAGE_ERROR_JSON"] = "1"
    try:
        return checked(program(*arguments, status=status, **options).err, status)
    finally:
        del os.environ["VIRT_REIMAGE_ERROR_JSON"]


def checked(err, status):
    error = error_parts(err)
    PRODUCED[error["code"]] = status
    line = error["what"] + (f": {error['cause']}" if "cause" in error else "")
    assert error["message"] == line + "".join(f"; {error[key]}" for key in ("now", "next") if key in error)
    return error


def end_of(run):
    _, err = run.communicate(timeout=90)
    assert "Sanitizer" not in err, err
    return run.returncode, err


def in_flight(lab, version, name="", at="swapping"):
    """The instance, or any, has come to `at`."""
    run = lab.program.start("--json", "upgrade", lab.set_name, "--version", version)
    run.wait_line(name, at)
    return run


@pytest.fixture(scope="module", name="table")
def fixture_table():
    """docs/errors.md: {code: (exit status, meaning, what to do)}."""
    with open(os.path.join(TOP, "docs/errors.md"), encoding="utf-8") as file:
        rows = re.findall(r"^\| `(\w+)` \| (\d) \| (.+?) \| (.+?) \|$", file.read(), re.MULTILINE)
    return {code: (int(status), meaning, todo) for code, status, meaning, todo in rows}


@pytest.fixture(scope="module", name="lab")
def fixture_lab(make_lab):
    return make_lab(2, "errors", batch=50)


# --- the form -----------------------------------------------------------------------------------------


def test_on_a_terminal(program):
    """What was being done, what to type next, the kernel's words, each on a line of its own."""
    assert program.run("nosuch").err == "error: there is no command 'nosuch'\n  next:  'virt-reimage --help' lists the commands\n"
    what, todo, cause = program("image-publish", IMAGE, "1.0.0", "/nonexistent", status=FAILED).err.splitlines()
    assert what.startswith("error: ") and "/nonexistent" in what and cause == "  cause: No such file or directory"
    assert todo == "  next:  ls -ld '/nonexistent' shows whether it is there, and who may read it"


def test_in_json_it_says_the_same(published):
    """libvirt's words are the cause, and come last."""
    other = Program(published.root, published.work, uri=NO_LIBVIRT)
    shown = other("gc", status=FAILED).err
    assert [line.split(":")[0] for line in shown.splitlines()] == ["error", "  next", "  cause"]
    error = checked(other("--json", "gc", status=FAILED).err, FAILED)
    assert error["what"] == f"libvirt cannot be reached at {NO_LIBVIRT}" and "/nonexistent" in error["cause"]
    assert error["code"] == "Disconnected" and error_line(shown) == f"error: {error['message']}"


PROGRAM = r"virt-reimage( (?!COMMAND|NAME|SET|VERSION)[^ ']+)+"
WRONG = [
    (USAGE, ["--nosuch", "status"], "virt-reimage: unknown option --nosuch"),
    (USAGE, ["status"], "status: an argument is missing"),
    (USAGE, ["status", "a", "b"], "status: too many arguments"),
    (USAGE, ["upgrade", "--version"], "upgrade: missing argument for --version"),
    (USAGE, ["image-publish", "a b", "1.0.0", "{GOOD}"], '"a b" cannot be the name of an image'),
    (USAGE, ["image-publish", IMAGE, "1.x", "{GOOD}"], '"1.x" is not a version'),
    (FAILED, ["image-info", "nosuch", "1.0.0"], "there is no image nosuch"),
    (FAILED, ["image-info", IMAGE, "9.9.9"], f"image {IMAGE} has no version 9.9.9"),
    (FAILED, ["image-check", "/nonexistent"], "'/nonexistent' cannot be opened"),
    (REFUSED, ["image-check", "{TEXT}"], "is refused (rule "),
    (REFUSED, ["image-publish", IMAGE, "8.0.0", "/dev/null"], "/dev/null is no regular file but a device"),
    (REFUSED, ["image-publish", IMAGE, "8.0.0", "{GOOD}", "--digest", "sha256:" + "0" * 64], "has another digest than sha256:000"),
    (FAILED, ["status", "nosuch"], "there is no set 'nosuch'"),
    (FAILED, ["set-define", "/nonexistent"], "model '/nonexistent' cannot be read"),
    (USAGE, ["set-define", "{BAD}"], "bad.yaml:2: nosuch: unknown key"),
    (FAILED, ["set-define", "{STRANGE}"], "strange.yaml:2: there is no domain 'nosuch'"),
    (REFUSED, ["retry", "shop"], "set 'shop' had no run yet"),
    (REFUSED, ["rollback", "shop", "--all"], "set 'shop': no run moved an instance"),
    (USAGE, ["plan", "shop", "--ignore", "nosuch"], "--ignore: 'nosuch' is no finding"),
    (USAGE, ["plan", "shop", "--ignore", "tpm"], "--ignore: [tpm] is a warning and stops nothing"),
]


@pytest.mark.parametrize("status, words, what", WRONG, ids=[" ".join(words) for _, words, _ in WRONG])
def test_each_says_what_to_type(defined, status, words, what):
    """The object is in the first line; a command of this program that the next names has no place left to fill in, and is one."""
    files = {"{GOOD}": defined.image("8.0.0"), "{TEXT}": defined.write("text.img", "no image"),
             "{BAD}": defined.write("bad.yaml", "name: shop\nnosuch: 1\n"),
             "{STRANGE}": defined.write("strange.yaml", f"imageReference: {{name: {IMAGE}}}\ninstances: [{{domain: nosuch}}]\nname: strange\n")}
    error = error_of(defined, status, *[files.get(word, word) for word in words])
    assert what in error["what"] and error["next"], error
    for command in re.finditer(PROGRAM, error["next"]):
        word = command[0].split()[1]
        assert defined.run(word, "--help").status == 0 or word.startswith("-"), error


def test_what_is_to_be_typed_is_about_the_same_guests(published, monkeypatch):
    """What was given is given again, in JSON too; help needs none, and what goes without saying is not said."""
    other = Program(published.root, published.work, uri="test:///default")
    place = f"'virt-reimage --connect {other.uri} --root {other.root} "
    assert f"  next:  {place}set-define FILE' defines one" in other("status", "nosuch", status=FAILED).raw_err
    assert f"\"next\":\"{place}set-define FILE' defines one\"" in other("--json", "status", "nosuch", status=FAILED).raw_err
    assert f"; {place}set-define FILE' defines one\"" in other("--json", "status", "nosuch", status=FAILED).raw_err  # the message
    assert "  next:  'virt-reimage status --help' says more" in other("status", status=USAGE).raw_err
    assert f"next:  {place}instance-view web 'a b'' shows" in other("status", "web", "a b", status=USAGE).raw_err
    monkeypatch.setenv("XDG_DATA_HOME", published.work)
    plain = subprocess.run([BINARY, "--connect", "qemu:///session", "--root", f"{published.work}/virt-reimage", "set-list"], capture_output=True,
                           text=True, check=False)
    assert "'virt-reimage --connect qemu:///session image-publish NAME" in plain.stderr


@pytest.mark.parametrize("given, next_command", [
    (["upgrade", "web", "web-1"], "'virt-reimage reimage web web-1 --version VERSION' gives one instance a new disk"),
    (["plan", "web", "web-1"], "'virt-reimage reimage web web-1 --version VERSION --dry-run' shows it"),
    (["retry", "web", "web-1"], "'virt-reimage reimage web web-1' gives"),
    (["status", "web", "web-1"], "'virt-reimage instance-view web web-1' shows"),
    (["status", "web", "web-1", "web-2"], "'virt-reimage status --help'"),
    (["set-list", "web"], "'virt-reimage set-list --help'")])
def test_one_instance_where_none_is_taken(program, given, next_command):
    error = error_of(program, USAGE, *given)
    assert error["what"].startswith(f"{given[0]}: too many arguments: usage: virt-reimage {given[0]}") and next_command in error["next"]


def test_a_name_that_was_mistyped(defined, fleet):
    for command in ("plan", "upgrade", "status"):
        error = error_of(defined, FAILED, command, "shpo")
        assert error["now"] == "there are: shop" and error["next"] == "did you mean 'shop'? 'virt-reimage set-list' shows all"
        assert error_of(defined, FAILED, command, "database")["next"] == "'virt-reimage set-list' shows them"
    name = fleet[0].name
    assert error_of(defined, FAILED, "instance-view", "shop", name + "x")["next"] == f"did you mean '{name}'? 'virt-reimage set-info shop' lists them"


def test_one_that_cannot_go_back(defined, fleet):
    name = fleet[0].name
    error = error_of(defined, REFUSED, "rollback", "shop", name)
    assert error["what"] == f"'{name}': it was never swapped, so there is nothing to go back to"
    assert error["next"] == f"'virt-reimage generations shop {name}' lists what is kept"


@pytest.mark.parametrize("command", [["image-publish", IMAGE, "1.0.0"], ["image-check"]], ids=lambda words: words[0])
def test_an_image_on_the_web(program, command):
    url = "https://cloud.example/a.qcow2"
    assert error_of(program, FAILED, *command, url)["next"] == f"nothing is downloaded here: \"curl -fLO '{url}'\" does, and then name the file"


def test_another_host(defined, tmp_path):
    """Nobody calls it, and no name that libvirt.conf has for it leads there."""
    far = Program(defined.root, defined.work, uri="qemu+ssh://root@other.invalid/system")
    for words in (["gc"], ["upgrade", "shop"], ["plan", "shop"]):
        error = error_of(far, USAGE, *words)
        assert error["what"].startswith(far.uri) and "'ssh other.invalid virt-reimage" in error["next"] and "cause" not in error
    (doctor,) = [check for check in far("--json", "doctor", status=FAILED).json["checks"] if check["check"] == "libvirt"]
    assert "over the network" in doctor["text"] and "'ssh other.invalid" in doctor["remedy"] and "ssh other" not in doctor["text"]
    relay = tmp_path / "relay"
    relay.write_text(RELAY)
    relay.chmod(0o755)
    conf = tmp_path / "libvirt.conf"
    conf.write_text(f'uri_aliases = ["far=qemu+ext:///system?command={relay}"]\n')
    hidden = ["unshare", "--mount", "--propagation", "private", "sh", "-c", 'mount --bind "$0" /etc/libvirt/libvirt.conf && exec "$@"', str(conf)]
    assert subprocess.run([*hidden, "virsh", "-c", "far", "uri"], capture_output=True, check=False).returncode == 0
    done = subprocess.run([*hidden, BINARY, "--root", defined.root, "-c", "far", "gc"], capture_output=True, text=True, check=False,
                          env=defined.environment)
    assert done.returncode == USAGE and "qemu+ext:///system" in done.stderr.splitlines()[0], done.stderr


def test_the_refusal_of_a_plan_that_was_shown(make_lab):
    """Whoever did not see it is told the command that shows it."""
    lab = make_lab(1, "errshown")
    domain = lab.fleet[0].domain
    xml = domain.XMLDesc(2)  # inactive
    domain.connect().defineXML(xml.replace("<target dev='vda'", "<transient/><target dev='vda'"))
    try:
        shown = lab.program("plan", lab.set_name, "--version", "2.0.0", status=REFUSED)
        assert "virt-reimage" not in error_parts(shown.err)["next"]
        dry = lab.program("upgrade", lab.set_name, "--version", "2.0.0", "--dry-run", status=REFUSED)
        assert error_parts(dry.err)["next"] == error_parts(shown.err)["next"]
        blind = lab.program("upgrade", lab.set_name, "--version", "2.0.0", status=REFUSED)
        assert f"'virt-reimage upgrade {lab.set_name} --version 2.0.0 --dry-run' shows all" in error_parts(blind.err)["next"]
    finally:
        domain.connect().defineXML(xml)


def test_what_is_quoted_cannot_make_a_line(published):
    result = published("set-define", "/nonexistent/a\n  next:  rm", status=FAILED)
    assert [line for line in result.err.splitlines() if "rm" in line] == [result.err.splitlines()[0]]


def test_the_manual_page_has_the_table(table):
    """... and docs/errors.md, row by row."""
    page = subprocess.run([BINARY, "help", "--man", "virt-reimage.1", "2026-11-23"], capture_output=True, text=True, check=True).stdout
    section = page.partition(".SH ERRORS\n")[2].partition("\n.SH ")[0].replace("\\-", "-").replace("\\&", "")
    rows = re.findall(r"^\.TP\n\\fB(\w+)\\fR \(exit status (\d)\)\n(.+)\.\n\.br\n(.+)\.$", section, re.MULTILINE)
    assert {code: (int(status), meaning, todo) for code, status, meaning, todo in rows} == table and len(table) == 20
    rows = re.findall(r"^\.TP\n\\fB(\w+)\\fR \(HTTP status (\d+)\)\n(.+)\.\n\.br\n(.+)\.$", section, re.MULTILINE)
    with open(os.path.join(TOP, "docs/errors.md"), encoding="utf-8") as file:
        assert rows == re.findall(r"^\| `(\w+)` \| (\d{3}) \| (.+?) \| (.+?) \|$", file.read(), re.MULTILINE)
    assert len(rows) == 8


# --- each code ----------------------------------------------------------------------------------------


def test_of_words_and_files(published, monkeypatch):
    program = published
    assert error_of(program, USAGE, "nosuch")["code"] == "Usage"
    assert "set-define FILE" in error_of(program, FAILED, "status", "nosuch")["next"]
    model = program.write("nobody.yaml", program.model("nobody", ["nosuch"]))
    assert " list --all' shows the domains" in error_of(program, FAILED, "set-define", model)["next"]
    assert "1.0.0" in error_of(program, FAILED, "image-info", IMAGE, "9.9.9")["now"]
    assert error_of(program, REFUSED, "image-check", program.write("text.img", "no image"))["code"] == "Refused"
    assert error_of(program, FAILED, "doctor", "--connect", NO_LIBVIRT)["code"] == "Failed"
    monkeypatch.setenv("VIRT_REIMAGE_CONF", program.write("bad.conf", "[metrics]\nnosuch=1\n"))
    assert "virt-reimage.conf(5)" in error_of(program, USAGE, "notices")["next"]
    assert PRODUCED.items() >= {"Usage": USAGE, "NotFound": FAILED, "Failed": FAILED, "Invalid": USAGE}.items()


def test_of_the_store(published, monkeypatch):
    program = published
    other = program.image("1.0.0", name="other.qcow2", ends=True)
    assert error_of(program, REFUSED, "image-publish", IMAGE, "1.0.0", other)["code"] == "Conflict"
    with monkeypatch.context() as patch:
        patch.setenv("PATH", "/nonexistent")
        assert error_of(program, FAILED, "image-publish", IMAGE, "4.0.0", other)["code"] == "Child"
    nowhere = Program(other, program.work)
    assert error_of(nowhere, FAILED, "image-list")["cause"] == "Not a directory"
    with open(f"{program.root}/state.db", "wb") as file:
        file.write(b"no database" * 1000)
    assert error_of(program, FAILED, "image-list")["code"] == "Database"
    assert PRODUCED["Io"] == FAILED


def test_of_a_full_disk(work):
    mount = os.path.join(work, "small")
    os.mkdir(mount)
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=2m", "tmpfs", mount], check=True)
    try:
        program = Program(os.path.join(mount, "store"), work)
        image = program.image("1.0.0")
        with open(os.path.join(mount, "ballast"), "wb") as file:
            file.write(bytes(1024 * 1024))
        assert error_of(program, FAILED, "image-publish", IMAGE, "1.0.0", image)["code"] == "NoSpace"
        assert "  next:  'virt-reimage image-list' shows" in program("image-publish", IMAGE, "1.0.0", image, status=FAILED).err
    finally:
        subprocess.run(["umount", mount], check=True)


def test_of_libvirt(defined, fleet):
    """It lets nobody look at a domain's secrets who came by its read-only socket."""
    other = Program(defined.root, defined.work, uri=READ_ONLY)
    error = error_of(other, FAILED, "adopt", "shop", fleet[0].name, "--version", "1.0.0")
    assert error["code"] == "Hypervisor" and "forbidden" in error["cause"] and fleet[0].name in error["what"]


def test_of_a_guest_agent(make_lab):
    """Its channel is there, and nobody answers."""
    lab = make_lab(1, "erragent", guest={"agent": True}, more="osProfile: {carryOver: [/etc/machine-id]}\n")
    error = error_of(lab.program, FAILED, "upgrade", lab.set_name, "--version", "2.0.0")
    assert error["code"] == "Agent" and lab.versions() == lab.all_on("1.0.0")


def test_of_the_owner(lab):
    """Another command while a run is on, one that does not answer, the run that was taken over, and one that a person ends."""
    run = in_flight(lab, "2.0.0")
    wait_stopped(lab.program, run)
    error = error_of(lab.program, OWNED, "upgrade", lab.set_name)
    assert error["code"] == "Busy" and f"kill -CONT {run.pid}" in error["next"]
    assert error_of(lab.program, FAILED, "upgrade", lab.set_name, "--version", "2.0.0", "--replace")["code"] == "Timeout"
    os.unlink(f"{lab.program.root}/locks/{lab.set_name}")
    lab.program("recover", lab.set_name)
    run.send_signal(signal.SIGCONT)
    status, err = end_of(run)
    assert checked(err, status)["code"] == "Fenced"
    run = in_flight(lab, "3.0.0")
    run.send_signal(signal.SIGINT)
    status, err = end_of(run)
    error = checked(err, status)
    assert error["code"] == "Cancelled" and f"'virt-reimage upgrade {lab.set_name}'" in error["next"]
    assert (PRODUCED["Fenced"], PRODUCED["Cancelled"]) == (OWNED, FAILED)


def test_of_the_end_of_a_run(lab):
    """By the policy; done but for one; and not known."""
    program = lab.program
    program("upgrade", lab.set_name, "--version", "3.0.0")
    program("image-publish", IMAGE, "9.0.0", crashing_image(program, "9.0.0"))
    error = error_of(program, POLICY, "upgrade", lab.set_name, "--version", "9.0.0")
    assert error["code"] == "Policy" and f"history {lab.set_name} --run " in error["next"]
    model = program.model(lab.set_name, lab.names, batch=50).replace("UpgradedInstancePercent: 20", "UpgradedInstancePercent: 100")
    program("set-define", "-", stdin=model)
    run = in_flight(lab, "2.0.0", lab.names[1], "probing")
    lab.fleet[1].domain.destroy()
    status, err = end_of(run)
    assert checked(err, status)["code"] == "Partial" and lab.versions() == dict(zip(lab.names, ("2.0.0", "3.0.0")))
    run = in_flight(lab, "1.0.0", lab.names[0], "probing")
    run.kill()
    end_of(run)
    guest = lab.fleet[0]
    xml = guest.domain.XMLDesc(2)  # inactive
    guest.domain.connect().defineXML(xml.replace(guest.configured_os_disk(), guest.os_disk + ".third"))
    error = error_of(program, PERSON, "recover", lab.set_name)
    assert error["code"] == "Person" and f"run 'virt-reimage recover {lab.set_name}'" in error["next"]
    guest.domain.connect().defineXML(xml)
    program("recover", lab.set_name)


def test_all_of_them_were_produced(table):
    """The last test of this module, after all others of it."""
    assert PRODUCED == {code: status for code, (status, _, _) in table.items()}
