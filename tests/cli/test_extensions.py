# SPDX-License-Identifier: LGPL-2.1-or-later
"""extensionProfile on the command line (C3, C4, E6): what is refused when, what plan says, and guests whose agent never answers.

Guests with an agent that does are in tests/lab/test_provision.py. The tests of a class share its guests and follow each other.
"""
import os

import pytest

from program import POLICY, REFUSED, USAGE

EXTENSIONS = """extensionProfile:
  extensions:
  - {name: app, script: app.sh, provisionAfterExtensions: [base], protectedSettings: {file: app.secret}}
  - {name: base, script: base.sh}
  - {name: last, command: [/bin/true]}
"""
SECRET = "n0t-t0-b3-s33n"


def model_of(lab, more=EXTENSIONS):
    text = lab.program.model(lab.set_name, lab.names, more=more, image="{name: cheap, version: 1.0.0}")
    return text.replace("healthTimeout: PT20S", "healthTimeout: PT2S")


def write_files(lab):
    for name, text in (("app.sh", "#!/bin/sh\n"), ("base.sh", "#!/bin/sh\n"), ("app.secret", SECRET)):
        os.chmod(lab.program.write(name, text), 0o600)


class TestExtensions:
    @pytest.fixture(scope="class", name="lab")
    def fixture_lab(self, make_lab):
        lab = make_lab(1, "extensions", guest={"agent": True})
        write_files(lab)
        return lab

    def test_what_is_refused_at_define(self, lab):
        """C4: with file and line, and nothing changes."""
        circle = EXTENSIONS.replace("{name: base,", "{name: base, provisionAfterExtensions: [app],")
        for more, message in ((circle, "goes in a circle: app after base after app"),
                              (EXTENSIONS.replace("{name: base,", "{name: last2,"),
                               "app comes after base, and no extension has that name"),
                              (EXTENSIONS.replace("name: last,", "name: base,"), "the name base comes twice"),
                              (EXTENSIONS.replace("[base]", "[app]"), "app comes after itself")):
            path = lab.program.write("refused.yaml", model_of(lab, more))
            line = lab.program.fails(USAGE, "set-define", path)
            assert message in line and "refused.yaml:1" in line

    def test_an_edit_is_for_the_next_reimage(self, lab):
        """C3: names of files are those beside the model, wherever one stands."""
        path = lab.program.write("model.yaml", "# a comment\n" + model_of(lab))
        (line,) = lab.program("--json", "set-define", path).lines
        (change,) = [one for one in line["changes"] if one["key"] == "extensionProfile.extensions"]
        assert change["meaning"] == "atNextReimage" and "apply" in change["note"]
        assert line["behind"] == lab.names
        dump = lab.program("set-dump", lab.set_name).out
        assert dump.startswith("# a comment\n") and f"script: '{lab.program.path('app.sh')}'" in dump
        (line,) = lab.program("--json", "set-define", "-", stdin=dump).lines
        assert line["changes"] == []
        assert SECRET not in dump + str(change)

    def test_plan_names_them_in_order(self, lab):
        plan = lab.program.json("apply", lab.set_name, "--all", "--dry-run")
        assert plan["extensions"] == ["base", "app", "last"]
        assert (plan["extensionsAtMostMs"], plan["batchAtMostMs"]) == (900_000, 922_000)
        out = lab.program("apply", lab.set_name, "--all", "--dry-run").out
        assert "extensions: in each guest, once it runs from its new disk: base, then app, then last\n" in out
        assert ("limits: once prepared, a batch takes at most 15 min 22 s until its guests are healthy or have failed, "
                "its extensions at most 15 min 00 s of that\n") in out

    def test_what_cannot_be_read_stops_it_before_any_guest(self, lab):
        script, secret = lab.program.path("app.sh"), lab.program.path("app.secret")
        os.rename(script, script + ".away")
        message = f"extension app: {script} cannot be read: No such file or directory"
        assert message in lab.program.fails(REFUSED, "apply", lab.set_name, "--all")
        assert message in lab.program.fails(REFUSED, "apply", lab.set_name, "--all", "--dry-run")
        os.mkfifo(script)
        assert f"{script} is no regular file" in lab.program.fails(REFUSED, "reimage", lab.set_name, "--all")
        os.rename(script + ".away", script)
        os.chmod(secret, 0o644)
        assert "chmod 600" in lab.program.fails(REFUSED, "apply", lab.set_name, "--all")
        os.chmod(secret, 0o600)

    def test_a_guest_without_an_agent_goes_back(self, lab):
        """E6: there is no health without the extensions; what did not run is told, and the old disk runs none."""
        result = lab.program("apply", lab.set_name, "--all", status=POLICY)
        assert "extension base was not begun: the guest agent did not answer within" in result.err
        view = lab.program.json("instance-view", lab.set_name, lab.names[0])
        assert view["extensions"] == [] and view["lastSwap"]["state"] == "UNDONE"
        tried = {one["name"]: one for one in view["triedExtensions"]}
        assert [(name, one["status"]) for name, one in tried.items()] == [
            ("base", "Failed"), ("app", "Skipped"), ("last", "Failed")]
        assert tried["app"]["statuses"][0]["code"] == "ProvisioningState/failed/skipped"
        run = lab.program.json("history", lab.set_name)["runs"][0]["runId"]
        (instance,) = lab.program.json("history", lab.set_name, "--run", run)["instances"]
        assert instance["phase"] == "restored" and instance["extensions"] == view["triedExtensions"]
        out = lab.program("instance-view", lab.set_name, lab.names[0]).out
        assert "app: Skipped: was skipped: it comes after base, which was not begun" in out
        assert SECRET not in result.err + result.out + out


def test_a_guest_without_a_channel(make_lab):
    """C3: an extension needs an agent, so a guest that can have none is not touched."""
    lab = make_lab(1, "nochannel")
    write_files(lab)
    lab.program("set-define", lab.program.write("model.yaml", model_of(lab)))
    assert "no guest agent channel, and the model needs the agent" in lab.program.fails(REFUSED, "apply", lab.set_name, "--all")
