# SPDX-License-Identifier: LGPL-2.1-or-later
"""C11, G8, G9: an edited model reaches the guests by apply, or at once, as upgradePolicy.mode says. I1, I3, I4, J11.

The tests of a class share its guests and follow each other.
"""
import pytest

from program import FAILED, REFUSED, USAGE, content_of


def revisions(lab):
    return {one["domain"]: one["modelRevision"] for one in lab.status()["instances"]}


def behind(lab):
    return [one["domain"] for one in lab.status()["instances"] if one["behindModel"]]


def backing(lab, name):
    """The chain of the OS disk that the domain names: an overlay lies on its image, a full clone on nothing."""
    (current,) = [one for one in lab.program.json("generations", lab.set_name, name)["generations"]
                  if one["state"] == "current"]
    with open(current["path"], "rb") as disk:
        return b"disk.qcow2" in disk.read(4096)


def define(lab, *arguments, **options):
    model = lab.program.model(lab.set_name, lab.names, **options)
    return lab.program("--json", "set-define", "-", *arguments, stdin=model)


def last_run(lab):
    return lab.program.json("history", lab.set_name)["runs"][0]


class TestManual:
    @pytest.fixture(scope="class", name="lab")
    def fixture_lab(self, make_lab):
        return make_lab(3, "apply")

    def test_an_edit_leaves_guests_as_they_are(self, lab):
        """G8: the define says which are behind, and what brings them."""
        assert lab.program("apply", lab.set_name, "--all").out == (
            f"set {lab.set_name}: all instances are up to date with the model (revision 1)\n")
        (line,) = define(lab, kind="full", image="{name: cheap, version: 1.0.0}").lines
        assert line["behind"] == lab.names and line["modelRevision"] == 2
        assert behind(lab) == lab.names and lab.status()["modelRevision"] == 2
        assert not any(one["latestModelApplied"] for one in lab.status()["instances"])
        assert lab.program.json("history", lab.set_name)["runs"] == []
        out = lab.program("status", lab.set_name).out
        assert "3 of 3 instances" in out and f"apply {lab.set_name} --all" in out
        out = lab.program("set-define", "-", stdin=lab.program("set-dump", lab.set_name).out).out
        assert f"behind the model: {', '.join(lab.names)}; 'virt-reimage apply {lab.set_name} --all'" in out

    def test_nobody_is_meant_by_default(self, lab):
        """I3"""
        assert "--all" in lab.program.fails(USAGE, "apply", lab.set_name)
        lab.program.fails(USAGE, "apply", lab.set_name, lab.names[0], "--all")
        lab.program.fails(FAILED, "apply", lab.set_name, "cli-stranger")

    def test_a_dry_run_shows_the_plan(self, lab):
        before = lab.program.snapshot()
        plan = lab.program.json("apply", lab.set_name, lab.names[1], "--dry-run")
        assert plan["operation"] == "apply" and plan["targetImageReference"]["version"] == "1.0.0"
        ((one,),) = [batch["instances"] for batch in plan["batches"]]
        assert (one["domain"], one["currentVersion"], one["targetVersion"]) == (lab.names[1], "1.0.0", "1.0.0")
        assert lab.program.snapshot() == before

    def test_apply_one(self, lab):
        """A new disk of the same version, by the new model; data disks are not touched."""
        name = lab.names[1]
        data = [content_of(path) for guest in lab.fleet for path, _, _ in guest.data]
        lab.program("apply", lab.set_name, name, "--reason", "a test")
        run = last_run(lab)
        assert run["operation"] == "apply" and run["reason"] == "a test"
        assert run["targetImageReference"]["version"] == "1.0.0"
        assert lab.versions() == lab.all_on("1.0.0") and not backing(lab, name)
        assert behind(lab) == [lab.names[0], lab.names[2]]
        assert revisions(lab) == {lab.names[0]: None, name: 2, lab.names[2]: None}
        view = lab.program.json("instance-view", lab.set_name, name)
        assert view["latestModelApplied"] and [one["modelRevision"] for one in view["generations"]] == [None, 2]
        assert "no, the model was edited" in lab.program("instance-view", lab.set_name, lab.names[0]).out
        assert [content_of(path) for guest in lab.fleet for path, _, _ in guest.data] == data

    def test_apply_all_takes_those_that_are_left(self, lab):
        result = lab.program("--json", "apply", lab.set_name, "--all")
        run = lab.program.json("history", lab.set_name, "--run", result.lines[-1]["run"]["runId"])
        assert {one["domain"]: (one["phase"], one["reason"]) for one in run["instances"]} == {
            lab.names[0]: ("committed", None), lab.names[2]: ("committed", None),
            lab.names[1]: ("skipped", "up to date with the model (revision 2)")}
        assert behind(lab) == [] and all(one["latestModelApplied"] for one in lab.status()["instances"])

    def test_what_is_up_to_date_is_left_alone(self, lab):
        before = lab.program.snapshot()
        assert "all instances are up to date" in lab.program("apply", lab.set_name, "--all").out
        assert "what was named is up to date" in lab.program("apply", lab.set_name, lab.names[0]).out
        assert lab.program.snapshot() == before

    def test_rollback_of_an_apply(self, lab):
        """... moves back those that it moved, and then they are behind again."""
        lab.program("rollback", lab.set_name, "--all")
        assert behind(lab) == [lab.names[0], lab.names[2]]
        assert lab.versions() == lab.all_on("1.0.0")

    def test_each_on_its_own_version(self, lab):
        """I1, I4, H6: also where they differ; history names no version then."""
        lab.program("reimage", lab.set_name, lab.names[2], "--version", "2.0.0")
        define(lab, kind="overlay", batch=34)
        assert revisions(lab) == {lab.names[0]: None, lab.names[1]: 2, lab.names[2]: 2}
        mixed = {**lab.all_on("1.0.0"), lab.names[2]: "2.0.0"}
        result = lab.program("--json", "apply", lab.set_name, "--all")
        assert [line["event"] for line in result.lines].count("batch") == 3
        assert lab.versions() == mixed and behind(lab) == []
        assert all(backing(lab, name) for name in lab.names)
        run = lab.program.json("history", lab.set_name, "--run", last_run(lab)["runId"])
        assert run["targetImageReference"] is None
        assert {one["domain"]: one["targetVersion"] for one in run["instances"]} == mixed
        assert "apply" in lab.program("history", lab.set_name).out
        lab.program("reimage", lab.set_name, "--all")
        assert lab.versions() == mixed and last_run(lab)["operation"] == "reimage"

    def test_mixed_versions_as_full_clones(self, lab):
        """Each read of an image serves those of its version."""
        define(lab, kind="full")
        lab.program("apply", lab.set_name, "--all")
        assert lab.versions() == {**lab.all_on("1.0.0"), lab.names[2]: "2.0.0"}
        assert not any(backing(lab, name) for name in lab.names)
        for guest, version in zip(lab.fleet, ("1.0.0", "1.0.0", "2.0.0")):
            guest.wait_boot(version, boots=4)

    def test_who_cannot_be_brought_there_is_told(self, lab):
        """With --all it is left alone with the reason, by name it is an error; nobody is moved."""
        first, second, third = lab.names
        define(lab, kind="overlay", labels={first: "protectionPolicy: {protectFromScaleSetActions: true}"})
        for name in (second, third):
            lab.program("image-exclude", "cheap", "1.0.0" if name == second else "2.0.0", "--reason", "bad")
        out = lab.program("apply", lab.set_name, "--all").out
        assert "3 of 3 instances are behind" in out
        assert f"left alone: {first}: protected by the model; 'virt-reimage apply {lab.set_name} {first}'" in out
        assert f"left alone: {second}: cheap 1.0.0 is excluded: bad" in out
        assert f"'{second}': cheap 1.0.0 is excluded" in lab.program.fails(REFUSED, "apply", lab.set_name, second)
        for version in ("1.0.0", "2.0.0"):
            lab.program("image-include", "cheap", version)
        lab.program("apply", lab.set_name, first)  # by its name
        assert behind(lab) == [second, third]


class TestRolling:
    @pytest.fixture(scope="class", name="lab")
    def fixture_lab(self, make_lab):
        return make_lab(3, "rolling")

    POLICY = "  mode: {}\n"

    @pytest.mark.parametrize("mode, kind", [("Rolling", "full"), ("Automatic", "overlay")])
    def test_an_edit_goes_out_at_once(self, lab, mode, kind):
        """G9: batch by batch under the policy, in Automatic too."""
        policy = self.POLICY.format(mode)
        result = define(lab, "--reason", "an edit", kind=kind, policy=policy, batch=34)
        events = [line["event"] for line in result.lines]
        assert events[0] == "define" and events[-1] == "end" and events.count("batch") == 3
        assert result.lines[0]["behind"] == lab.names
        assert result.lines[-1]["run"]["operation"] == "apply" and last_run(lab)["reason"] == "an edit"
        assert behind(lab) == [] and lab.versions() == lab.all_on("1.0.0")
        assert lab.program.json("set-info", lab.set_name)["mode"] == mode

    def test_what_is_live_moves_nobody(self, lab):
        runs = len(lab.program.json("history", lab.set_name)["runs"])
        (line,) = define(lab, kind="overlay", policy=self.POLICY.format("Rolling"), unhealthy=50, batch=50).lines
        assert line["behind"] == [] and len(lab.program.json("history", lab.set_name)["runs"]) == runs

    def test_no_apply_leaves_it_and_the_next_define_takes_it_up(self, lab):
        policy = self.POLICY.format("Rolling")
        before = lab.program.snapshot()
        model = lab.program.model(lab.set_name, lab.names, kind="full", policy=policy)
        out = lab.program("set-define", "-", "--dry-run", stdin=model).out
        assert f"apply {lab.set_name} --all' would begin at once" in out
        assert lab.program.snapshot() == before
        (line,) = define(lab, "--no-apply", kind="full", policy=policy).lines
        assert line["behind"] == lab.names == behind(lab)
        assert define(lab, kind="full", policy=policy).lines[-1]["event"] == "end"
        assert behind(lab) == []

    def test_one_of_unknown_version_is_left_alone(self, lab, make_lab):
        """Decision 5: nobody guesses what a guest runs that we did not make."""
        other = make_lab(1, "unknown")
        name = other.names[0]
        other.program("set-undefine", other.set_name)
        model = lab.program.model(lab.set_name, [*lab.names, name], kind="full", policy=self.POLICY.format("Rolling"))
        (line,) = lab.program("--json", "set-define", "-", stdin=model).lines
        assert line["behind"] == []  # a newcomer is not behind
        model = model.replace("kind: full", "kind: overlay")
        out = lab.program("set-define", "-", stdin=model).out
        assert "3 of 4 instances" in out
        assert behind(lab) == [name]
        assert "adopt" not in lab.program.fails(REFUSED, "apply", lab.set_name, name)
        out = lab.program("apply", lab.set_name, "--all").out
        assert f"left alone: {name}: it is not known which version it runs" in out
