# SPDX-License-Identifier: LGPL-2.1-or-later
"""K6: a set that exists is defined anew, and each change says what it means. A4, G11, B19."""
import os

import pytest

from program import FAILED, IMAGE, OWNED, REFUSED, USAGE, error_parts
from test_sets import Owner, names


def changes(result):
    (line,) = result.lines
    return {one["key"]: one["meaning"] for one in line["changes"]}


def define(program, model, *arguments, **options):
    return program("--json", "set-define", "-", *arguments, stdin=model, **options)


def test_each_change_says_what_it_means(defined, fleet):
    model = defined.model("shop", names(fleet)[:2], upgrade_domains=3, kind="full", stop="timeout: PT30S, force: true",
                          image="{name: cheap, version: 1.0.0}")
    expected = {"imageReference.version": "atNextReimage", "upgradeDomainCount": "live", "osDisk.kind": "atNextReimage",
                "stop.timeout": "live", f"instances[{fleet[2].name}]": "live"}
    before = defined.snapshot()
    dry = define(defined, model, "--dry-run")
    assert defined.snapshot() == before
    assert changes(dry) == expected and dry.lines[0]["dryRun"] and not dry.lines[0]["defined"]
    done = define(defined, model)
    assert changes(done) == expected and done.lines[0]["defined"]
    assert defined("set-dump", "shop").out == model
    again = define(defined, model)
    assert changes(again) == {} and again.lines[0]["defined"]


def test_for_a_person(defined, fleet):
    out = defined("set-define", "-", stdin=defined.model("shop", names(fleet), upgrade_domains=2, kind="full")).out
    lines = out.splitlines()
    assert lines[0].split() == ["KEY", "FROM", "TO", "MEANING"]
    assert lines[1].split() == ["osDisk.kind", "overlay", "full", "at", "next", "reimage"]
    assert "'apply' brings it" in lines[2]
    again = defined("set-define", "-", stdin=defined("set-dump", "shop").out).out
    assert again.startswith("set shop: defined with 3 instances; nothing of it changes\nbehind the model: ")


def test_a_new_set_has_no_changes(published, fleet):
    model = published.model("shop", names(fleet))
    for arguments in (["--dry-run"], []):
        (line,) = define(published, model, *arguments).lines
        assert line["changes"] is None and line["instanceCount"] == 3
    assert "KEY" not in published("set-define", "-", stdin=published.model("other", names(fleet)), status=REFUSED).out


def test_a_dry_run_without_a_store(program, fleet):
    assert define(program, program.model("shop", names(fleet)), "--dry-run").lines[0]["changes"] is None
    assert program.snapshot() == {}


@pytest.mark.parametrize("arguments", [[], ["--dry-run"]])
def test_another_publisher_is_refused(program, fleet, arguments):
    """A4, also when both images are called by their names."""
    for name, publisher in ((IMAGE, "local"), ("other", "elsewhere")):
        program("image-publish", name, "1.0.0", program.image("1.0.0"), "--publisher", publisher, "--offer", "o", "--sku", "1")
    program("set-define", "-", stdin=program.model("shop", names(fleet)))
    model = program.model("shop", names(fleet), image="{name: other, version: latest}", kind="full")
    line = program.fails(REFUSED, "set-define", "-", *arguments, stdin=model)
    assert "imageReference.publisher" in line and "'local'" not in line and "set-undefine" in line
    refused = define(program, model, *arguments, status=REFUSED)
    assert changes(refused) == {"imageReference.publisher": "refused", "osDisk.kind": "atNextReimage"}
    assert not refused.lines[0]["defined"]
    other_spelling = program.model("shop", names(fleet), image='{publisher: local, offer: o, sku: "1", version: latest}')
    assert changes(define(program, other_spelling)) == {}


def test_a_renamed_role_and_a_moved_os_disk_are_refused(defined, fleet):
    def labelled(role, target="vda"):
        model = defined.model("shop", names(fleet), labels={name: f"role: {role}" for name in names(fleet)})
        return model.replace("target: vda", f"target: {target}")

    defined("set-define", "-", stdin=labelled("web"))
    assert "web to www" in defined.fails(REFUSED, "set-define", "-", stdin=labelled("www"))
    defined("set-define", "-", stdin=labelled("web", "vdb"))
    defined("set-define", "-", stdin=labelled("web"))
    defined("adopt", "shop", fleet[1].name, "--version", "1.0.0")
    assert "osDisk.target" in defined.fails(REFUSED, "set-define", "-", stdin=labelled("web", "vdb"))


def test_an_instance_in_the_other_spelling_is_the_same(defined, fleet):
    model = defined.model("shop", [fleet[0].uuid, *names(fleet)[1:]], upgrade_domains=2)
    assert changes(define(defined, model)) == {}


def test_during_a_run_nothing_changes(defined, fleet):
    """G11, B19: not even what is live; a dry run still says what it would be."""
    model = defined.model("shop", names(fleet), upgrade_domains=2, stop="timeout: PT30S, force: true")
    with Owner(defined, "shop"):
        assert "upgrade of a test" in defined.fails(OWNED, "set-define", "-", stdin=model)
        dry = define(defined, model, "--dry-run", status=OWNED)
        assert changes(dry) == {"stop.timeout": "live"} and "upgrade of a test" in dry.error()
        domains = defined.model("shop", names(fleet), upgrade_domains=3)
        assert changes(define(defined, domains, "--dry-run", status=REFUSED)) == {"upgradeDomainCount": "refused"}
    assert changes(define(defined, model)) == {"stop.timeout": "live"}


@pytest.fixture(name="edit")
def fixture_edit(defined, monkeypatch, tmp_path):
    """Runs set-edit with a command as the editor; drafts lie in tmp_path."""
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    monkeypatch.delenv("VISUAL", raising=False)

    def run(command, *arguments, **options):
        monkeypatch.setenv("EDITOR", command)
        return defined("set-edit", "shop", *arguments, **options)

    run.drafts = lambda: [os.path.join(tmp_path, name) for name in os.listdir(tmp_path)]
    return run


def test_set_edit(defined, edit):
    before = defined.snapshot()
    assert edit("true").out == "set shop: not edited\n"
    assert [line["event"] for line in edit("true", "--json").lines] == ["nothingToDo"]
    assert "osDisk.kind" in edit("sed -i 's/kind: overlay/kind: full/'", "--dry-run").out
    assert defined.snapshot() == before
    assert "osDisk.kind" in edit("sed -i 's/kind: overlay/kind: full/'").out
    assert "kind: full" in defined("set-dump", "shop").out and edit.drafts() == []


@pytest.mark.parametrize("command, status, text", [
    ("sed -i 's/^name: shop/name: shoq/'", REFUSED, "keeps its name"),
    ("sed -i 's/^name:/nome:/'", USAGE, ":1: nome: unknown key"),
    ("sh -c 'exit 7'", FAILED, "sh failed with status 7"),
    ("no-such-editor", FAILED, "no-such-editor"),
    ("no-such-editor", FAILED, "; set EDITOR to an editor that is installed"),
    ("sed -i 's/force: true/force: false/", FAILED, "EDITOR")])
def test_what_was_edited_in_vain_is_kept(defined, edit, command, status, text):
    before = defined.snapshot()
    result = edit(command, status=status)
    assert text in result.error() and defined.snapshot() == before
    (draft,) = edit.drafts()
    assert draft in result.err and os.stat(draft).st_mode & 0o777 == 0o600


def test_an_edit_that_was_overtaken(defined, edit, fleet, tmp_path):
    """The model that is there must be the one that was edited."""
    other = defined.write("other.yaml", defined.model("shop", names(fleet), upgrade_domains=4))
    script = defined.write("editor", f"#!/bin/sh\nsed -i 's/force: true/force: false/' $1\n"
                                     f"{' '.join(defined.command('set-define', other))} >/dev/null\n")
    os.chmod(script, 0o755)
    assert "defined anew while it was edited" in edit(script, status=REFUSED).error()
    assert "upgradeDomainCount: 4" in defined("set-dump", "shop").out


WINDOW = 'maintenanceWindow: {{schedule: "{}", duration: PT4H}}\n'


@pytest.mark.parametrize("schedule,text", [
    ("Sat *-*-* 02:00 Nowhere/None", "is no calendar expression of systemd; try 'systemd-analyze calendar"),
    ("*-02-30 03:00", "never comes again"),
    ("*:*:0/15", "comes more often than once a minute"),
    ("-h", "is no calendar expression of systemd, such as"),
])
def test_a_schedule_that_is_none(program, fleet, schedule, text):  # H4
    model = program.model("shop", names(fleet)) + WINDOW.format(schedule)
    line = len(model.splitlines())
    refused = define(program, model, status=USAGE)
    assert f"standard input:{line}: maintenanceWindow.schedule: \"{schedule}\" " in refused.error() and text in refused.error()
    assert "systemd-analyze" not in error_parts(refused.err)["what"]  # which is what to type next
    assert program.snapshot() == {}


def test_a_schedule_that_needs_quotes(program, fleet):  # H4
    model = program.model("shop", [guest.name for guest in fleet]) + "maintenanceWindow: {schedule: *-*-* 02:00, duration: PT4H}\n"
    assert "must stand in quotes" in program("set-define", "-", stdin=model, status=USAGE).error()


def test_a_window_is_part_of_the_model(defined, fleet):  # H4
    model = defined.model("shop", names(fleet)) + WINDOW.format("Sat *-*-* 02:00 Europe/Berlin")
    said = changes(define(defined, model))
    assert said["maintenanceWindow.schedule"] == said["maintenanceWindow.duration"] == "live"
    assert defined("set-dump", "shop").out == model
