# SPDX-License-Identifier: LGPL-2.1-or-later
"""K3, K7: virt-reimaged's routes against real guests: what they answer, what they begin, and who may."""
import json
import os
import time

import pytest

from lib import unix_http
from lib.daemon import Daemon
from program import BINARY, IMAGE

NOBODY = 65534
SHOP = "/virtualMachineScaleSets/shop"


class Served:
    """A daemon over the store of a program, and its two sockets."""

    def __init__(self, program, **options):
        self.daemon = Daemon(BINARY + "d", program.root, uri=program.uri, **options)
        self.rw, self.ro = self.daemon.path("virt-reimage.sock"), self.daemon.path("virt-reimage-ro.sock")

    def ask(self, method, url, body=None, status=200, socket=None, **options):
        answer = unix_http.request(socket or self.rw, method, url, body, **options)
        assert answer.status == status, (method, url, answer.status, answer.body)
        return answer

    def get(self, url, **options):
        return self.ask("GET", url, **options)

    def fails(self, status, code, method, url, body=None, **options):
        """Returns the words of the error."""
        found, message = self.ask(method, url, body, status=status, **options).error
        assert found == code and message, (found, message)
        return message


@pytest.fixture(name="serve")
def fixture_serve():
    """Starts daemons, which end with the test."""
    all_of_them = []

    def serve(program, **options):
        served = Served(program, **options)
        all_of_them.append(served)
        served.daemon.start()
        served.get("/")
        return served

    yield serve
    for served in all_of_them:
        served.daemon.clean_up()


@pytest.fixture(name="shop")
def fixture_shop(defined, serve):
    """Three guests that are off, in the set 'shop'; served."""
    served = serve(defined)
    served.program = defined
    return served


def first_name(fleet):
    return fleet[0].name


# ---- what is ----


def test_it_says_what_it_serves_and_which_versions_it_knows(shop):
    deadline = time.monotonic() + 30
    while shop.get("/").json["jobs"] > 0:  # its own, of its begin
        assert time.monotonic() < deadline
        time.sleep(0.1)
    for path in (shop.rw, shop.ro):
        about = shop.get("/", socket=path).json
        assert about["program"] == "virt-reimaged" and about["root"] == shop.program.root and about["uri"] == "qemu:///system"
        assert about["pid"] == shop.daemon.process.pid and about["stopping"] is False
    assert "2018-10-01" in about["apiVersions"] and "2019-03-01" in about["apiVersions"]  # K7
    for version in about["apiVersions"]:
        shop.get(f"/?api-version={version}")
    shop.get(f"{SHOP}?api-version=2019-03-01")
    assert "GET /" in shop.fails(400, "InvalidApiVersionParameter", "GET", f"{SHOP}?api-version=2015-06-15")


def test_what_is_read_is_what_the_command_says(shop, fleet):
    """The same bytes by either socket, and by Azure's whole path."""
    name = first_name(fleet)
    commands = {
        "/virtualMachineScaleSets": ["set-list"],
        SHOP: ["set-info", "shop"],
        f"{SHOP}/instanceView": ["status", "shop"],
        f"{SHOP}/rollingUpgrades/latest": ["status", "shop"],
        f"{SHOP}/virtualMachines": ["status", "shop"],
        f"{SHOP}/virtualMachines/{name}/instanceView": ["instance-view", "shop", name],
        f"{SHOP}/virtualMachines/{fleet[0].uuid}": ["instance-view", "shop", fleet[0].uuid],
        f"{SHOP}/virtualMachines/{name}/generations": ["generations", "shop", name],
        f"{SHOP}/osUpgradeHistory": ["history", "--azure", "shop"],
        f"{SHOP}/history": ["history", "shop"],
        f"{SHOP}/plan?version=2.0.0": ["plan", "shop", "--version", "2.0.0"],
        "/images": ["image-list"],
        f"/images/{IMAGE}/versions": ["image-list", IMAGE],
        f"/images/{IMAGE}/versions/2.0.0": ["image-info", IMAGE, "2.0.0"],
    }
    before = shop.program.snapshot()
    for url, command in commands.items():
        said = shop.program("--json", *command).out
        for path in (shop.rw, shop.ro):
            answer = shop.get(url, socket=path)
            assert answer.headers["Content-Type"] == "application/json"
            if command[0] == "plan":  # its times are of now
                assert set(answer.json) == set(json.loads(said))
            else:
                assert answer.body == said, url
        shop.get("/subscriptions/S/resourceGroups/G/providers/Microsoft.Compute" + url) if url.startswith(SHOP) else None
    assert shop.program.snapshot() == before


def test_a_plan_shows_what_it_would_change_where_it_is_asked_for(shop):
    """G10 by HTTP; libvirt has its own rules for who may read a domain's configuration."""
    plan = f"{SHOP}/plan?version=2.0.0"
    said = shop.program.json("plan", "shop", "--version", "2.0.0", "--print-diff")["xmlDiffs"]
    assert len(said) == 3 and all("+++" in one["diff"] for one in said)
    assert shop.get(f"{plan}&printDiff=true").json["xmlDiffs"] == said
    for path in (shop.rw, shop.ro):
        assert shop.get(f"{plan}&printDiff=false", socket=path).json["xmlDiffs"] is shop.get(plan, socket=path).json["xmlDiffs"] is None
    assert "--print-diff" in shop.fails(409, "Refused", "GET", f"{plan}&printDiff=true", socket=shop.ro)
    shop.fails(400, "Usage", "GET", f"{plan}&printDiff=yes")


def test_versions_are_found_by_publisher_offer_and_sku(program, serve):
    """A5: Azure's own route."""
    program("image-publish", "named", "1.0.0", program.image("1.0.0"), "--publisher", "local", "--offer", "debian", "--sku", "12")
    served = serve(program)
    versions = served.get("/publishers/local/artifacttypes/vmimage/offers/debian/skus/12/versions").json["images"]
    assert [(one["name"], one["version"]) for one in versions] == [("named", "1.0.0")]
    served.fails(404, "NotFound", "GET", "/publishers/local/artifacttypes/vmimage/offers/debian/skus/13/versions")


def test_metrics_are_text_and_notices_are_not_for_everybody(shop):
    """J7, J9: an address of a webhook may be a secret."""
    for path in (shop.rw, shop.ro):
        answer = shop.get("/metrics", socket=path)
        assert answer.headers["Content-Type"].startswith("application/openmetrics-text") and answer.body.endswith("# EOF\n")
    assert shop.get("/notices").json == shop.program.json("notices")
    assert shop.get(f"{SHOP}/notices").json == shop.program.json("notices", "shop")
    shop.fails(403, "Forbidden", "GET", "/notices", socket=shop.ro)


def test_what_begins_by_itself_is_said_and_switched(shop):
    """H2, G6 by HTTP."""
    for path in (shop.rw, shop.ro):
        for url, words in (("/triggers", []), (f"{SHOP}/triggers", ["shop"])):
            said = shop.get(url, socket=path).json
            assert said.pop("daemonRuns") is True
            alone = shop.program.json("triggers", *words)
            alone.pop("daemonRuns")
            assert said == alone and said
    before = shop.get(f"{SHOP}/triggers").body
    assert "automatic is missing" in shop.fails(400, "Usage", "POST", f"{SHOP}/auto")
    shop.fails(400, "Usage", "POST", f"{SHOP}/auto", {"automatic": "perhaps"})
    assert shop.get(f"{SHOP}/triggers").body == before
    assert shop.ask("POST", f"{SHOP}/auto", {"automatic": "off"}).json["messages"]
    shop.ask("POST", f"{SHOP}/auto?automatic=model")


# ---- what goes wrong ----


def test_errors_have_the_code_and_the_words_of_the_command(shop, fleet):
    name = first_name(fleet)
    assert "nothing" in shop.fails(404, "NotFound", "GET", "/virtualMachineScaleSets/nothing")
    assert "9.0.0" in shop.fails(404, "NotFound", "GET", f"/images/{IMAGE}/versions/9.0.0")
    assert "instanceIds" in shop.fails(400, "Usage", "POST", f"{SHOP}/reimage")  # I3
    assert "tempDisk" in shop.fails(400, "Usage", "POST", f"{SHOP}/reimage", {"instanceIds": [name], "tempDisk": "yes"})
    assert "version" in shop.fails(400, "Usage", "GET", f"{SHOP}?version=1")
    shop.fails(400, "Usage", "GET", f"{SHOP}/plan?role=a&role=b")
    shop.fails(400, "Usage", "GET", f"{SHOP}/plan?role=%ff")
    shop.fails(400, "Usage", "POST", f"{SHOP}/retry", b"{")
    shop.fails(409, "Conflict", "POST", f"{SHOP}/rollingUpgrades/pause")  # no run is open
    assert "no path /nothing;" in shop.fails(404, "NotFound", "GET", "/nothing")
    shop.fails(404, "NotFound", "GET", "/virtualMachineScaleSets/a%00b")
    assert "GET, PUT, PATCH, DELETE" in shop.fails(405, "MethodNotAllowed", "POST", SHOP)
    shop.fails(405, "MethodNotAllowed", "DELETE", "/images")


def test_a_name_with_anything_in_it_is_a_name(shop):
    """SAFETY 30: no option, no path, no line of a log, nothing that ends a JSON text."""
    for name in ("--help", "-c", "--root=%2Ftmp", "..%2f..%2fetc", "%22%7d%0a%1b%5b2J", "%e2%80%ae", "a%20b", "%2a"):
        answer = unix_http.request(shop.rw, "GET", f"/virtualMachineScaleSets/{name}")
        assert answer.status in (400, 404), (name, answer.body)
        assert answer.error[0] in ("NotFound", "Usage") and "\x1b" not in answer.body
    assert "\x1b" not in shop.daemon.said()


# ---- models ----


def model_of(names, **more):
    return {"name": "shop", "imageReference": {"name": IMAGE, "version": "latest"}, "osDisk": {"target": "vda"},
            "instances": [{"domain": name} for name in names], **more}


def test_a_set_is_put_patched_and_deleted(published, fleet, serve):
    """K2, K3, C11."""
    served = serve(published)
    names = [guest.name for guest in fleet]
    done = served.ask("PUT", SHOP, model_of(names[:2])).json
    assert done["event"] == "define" and done["defined"] and done["instanceCount"] == 2
    assert published.json("set-info", "shop") == served.get(SHOP).json
    assert "another name" in served.fails(400, "Usage", "PUT", "/virtualMachineScaleSets/other", model_of(names))
    assert "did you mean" in served.fails(400, "Usage", "PUT", SHOP, model_of(names, upgradePolici={}))
    assert served.get("/virtualMachineScaleSets").json == published.json("set-list")

    served.ask("PATCH", SHOP, {"instances": [{"domain": name} for name in names], "UpgradePolicy": {"rollingUpgradePolicy":
               {"maxBatchInstancePercent": 20, "pauseTimeBetweenBatches": "PT7S"}}})
    assert len(published.json("set-info", "shop")["instances"]) == 3
    served.ask("PATCH", SHOP, {"upgradePolicy": {"rollingUpgradePolicy": {"pauseTimeBetweenBatches": None}}})
    text = published("set-dump", "shop").out
    assert "PT7S" not in text and '"maxBatchInstancePercent": 20' in text and "upgradePolicy" not in text
    assert json.loads(text)["UpgradePolicy"]["rollingUpgradePolicy"] == {"maxBatchInstancePercent": 20}
    before = published.snapshot()
    served.fails(400, "Usage", "PATCH", SHOP, {"upgradePolicy": {"rollingUpgradePolicy": {"maxBatchInstancePercent": 101}}})
    served.fails(404, "NotFound", "PATCH", "/virtualMachineScaleSets/nothing", {"retention": {}})
    assert published.snapshot() == before

    served.ask("DELETE", SHOP)
    served.fails(404, "NotFound", "GET", SHOP)


def test_a_patch_of_what_was_given_as_yaml_keeps_all_of_it(shop):
    before = shop.program.json("set-info", "shop")
    shop.ask("PATCH", SHOP, {"retention": {"generations": 3}})
    after = shop.program.json("set-info", "shop")
    assert after.pop("retention", None) != before.pop("retention", None) or "retention" not in after
    for one in (before, after):
        one.pop("modelRevision", None)
        one.pop("definedAt", None)
    assert after == before
    assert '"generations": 3' in shop.program("set-dump", "shop").out


def test_no_edit_is_lost_when_two_patch_at_once(shop):
    """Each is done, or refused; none undoes another."""
    import concurrent.futures

    def patch(i):
        return i, unix_http.request(shop.rw, "PATCH", SHOP, {"instances": None, "healthProfile": {"healthTimeout": f"PT{20 + i}S"}}
                                    if i == 9 else {"retention": {"generations": 2 + i}} if i % 2 else
                                    {"stop": {"timeout": f"PT{20 + i}S"}})

    with concurrent.futures.ThreadPoolExecutor(6) as pool:
        answers = list(pool.map(patch, range(6)))
    done = [i for i, answer in answers if answer.status == 200]
    assert done and all(answer.status in (200, 409) for i, answer in answers), [answer.body for i, answer in answers]
    model = json.loads(shop.program("set-dump", "shop").out)
    assert not [i for i in done if i % 2] or model["retention"]["generations"] - 2 in done
    assert not [i for i in done if not i % 2] or int(model["stop"]["timeout"][2:-1]) - 20 in done
    # one at a time: nothing is in the way
    shop.ask("PATCH", SHOP, {"retention": {"generations": 9}})
    assert json.loads(shop.program("set-dump", "shop").out)["retention"]["generations"] == 9


def test_an_edit_by_another_door_is_not_undone_by_a_patch(shop):
    """What set-define is told by a PATCH: the model that it was made of is there no more."""
    import hashlib
    text = shop.program("set-dump", "shop").out
    other = text.replace("generations: 2", "generations: 4") + "# by hand\n"
    shop.program("set-define", "-", stdin=other)
    line = shop.program("set-define", "--replaces", hashlib.sha256(text.encode()).hexdigest(), "-", stdin=text, status=4).error()
    assert "while it was edited" in line and shop.program("set-dump", "shop").out == other
    shop.program("set-define", "--replaces", hashlib.sha256(other.encode()).hexdigest(), "-", stdin=text)


def test_small_changes(shop, fleet):
    """G7, A2, A14 by HTTP."""
    name = first_name(fleet)
    assert shop.ask("POST", f"{SHOP}/protect", {"instanceIds": [name], "reason": "ticket 7"}).json["messages"]
    assert [one["protected"] is not None and one["protected"] is not False for one in shop.program.json("status", "shop")["instances"]
            if one["domain"] == name] == [True]
    shop.ask("POST", f"{SHOP}/unprotect", {"instanceIds": [name]})
    shop.ask("POST", f"{SHOP}/virtualMachines/{name}/adopt", {"version": "1.0.0"})
    assert shop.program.json("instance-view", "shop", name)["version"] == "1.0.0"
    shop.ask("POST", f"/images/{IMAGE}/versions/3.0.0/exclude", {"reason": "no network"})
    assert shop.program.json("image-info", IMAGE, "3.0.0")["eligible"] is False
    shop.ask("POST", f"/images/{IMAGE}/versions/3.0.0/include")
    shop.ask("DELETE", f"/images/{IMAGE}/versions/3.0.0")
    shop.fails(404, "NotFound", "GET", f"/images/{IMAGE}/versions/3.0.0")
    shop.ask("POST", f"{SHOP}/recover")


# ---- who ----


def test_who_may_only_read_can_change_nothing(shop, fleet):
    """SAFETY 32: another user has the read-only socket, and each route that changes something is refused there."""
    before = shop.program.snapshot()
    assert unix_http.request_as(NOBODY, [], shop.ro, "GET", SHOP).json == shop.program.json("set-info", "shop")
    refused = unix_http.request_as(NOBODY, [], shop.rw, "GET", "/")
    assert refused.status == 0 and "Permission denied" in refused.body
    body = {"instanceIds": [first_name(fleet)], "reason": "none"}
    changing = [("PUT", SHOP), ("PATCH", SHOP), ("DELETE", SHOP), ("DELETE", f"/images/{IMAGE}/versions/1.0.0"), ("GET", "/notices")]
    changing += [("POST", f"{SHOP}/{verb}") for verb in
                 ("osRollingUpgrade", "reimage", "reimageall", "manualupgrade", "rollback", "retry", "recover", "protect", "unprotect",
                  "auto", "rollingUpgrades/cancel", "rollingUpgrades/walk", f"virtualMachines/{first_name(fleet)}/release")]
    for method, url in changing:
        answer = unix_http.request_as(NOBODY, [], shop.ro, method, url, json.dumps(body))
        assert (answer.status, answer.error[0]) == (403, "Forbidden"), (url, answer.body)
    assert shop.program.snapshot() == before
    assert not [words for words in shop.daemon.jobs() if not words.startswith("--json set-info")]


# ---- runs ----


@pytest.fixture(scope="module", name="lab")
def fixture_lab(make_lab):
    return make_lab(2, "daemon", batch=50, upgrade_domains=2)


@pytest.fixture(name="live")
def fixture_live(lab, serve):
    served = serve(lab.program)
    served.set = f"/virtualMachineScaleSets/{lab.set_name}"
    return served


def wait_for(served, condition):
    deadline = time.monotonic() + 120
    while True:
        status = served.get(f"{served.set}/rollingUpgrades/latest").json
        if condition(status):
            return status
        assert time.monotonic() < deadline, status
        time.sleep(0.3)


def wait_end(served, lab, code="Completed"):
    status = wait_for(served, lambda status: status["openRun"] is None and status["lockHolder"] is None)
    assert status["runningStatus"]["code"] == code, (status["error"], json.dumps(status["instances"]))
    return status


def begin(served, verb, body=None):
    answer = served.ask("POST", f"{served.set}/{verb}", body, status=202)
    assert answer.headers["Location"] == f"{served.set}/rollingUpgrades/latest"
    return answer


def test_runs_are_begun_watched_and_ended(live, lab):
    """G1, G2, G3, I1, F6 by HTTP: 202 and where to look, as Azure does."""
    begin(live, "osRollingUpgrade", {"version": "2.0.0", "reason": "by HTTP"})
    busy = live.fails(409, "Busy", "POST", f"{live.set}/osRollingUpgrade", {"version": "3.0.0"})
    assert lab.set_name in busy
    live.ask("POST", f"{live.set}/rollingUpgrades/pause")
    live.ask("POST", f"{live.set}/rollingUpgrades/resume")
    wait_end(live, lab)
    assert lab.versions() == lab.all_on("2.0.0")
    run = live.get(f"{live.set}/history").json["runs"][0]
    assert run["reason"] == "by HTTP" and live.get(f"{live.set}/history?run={run['runId']}").json
    assert live.get(f"{live.set}/osUpgradeHistory").json["value"][0]["properties"]["runningStatus"]["code"] == "Completed"

    begin(live, "reimage", {"instanceIds": [lab.names[0]], "exactVersion": "3.0.0"})
    wait_end(live, lab)
    assert lab.versions() == {lab.names[0]: "3.0.0", lab.names[1]: "2.0.0"}
    begin(live, "rollback", {"instanceIds": lab.names[:1]})
    wait_end(live, lab)
    assert lab.versions() == lab.all_on("2.0.0")
    begin(live, "osRollingUpgrade?version=3.0.0&walk=true")
    wait_for(live, lambda status: status["openRun"] and status["openRun"]["hold"])
    live.fails(409, "Conflict", "POST", f"{live.set}/rollingUpgrades/promote")
    live.ask("POST", f"{live.set}/rollingUpgrades/cancel", {"now": True})
    wait_end(live, lab, "Cancelled")
    begin(live, "retry")  # there is nothing to be tried again, which is no error


def test_a_model_that_rolls_is_brought_to_its_guests(live, lab):
    """C11, G9: PUT and PATCH with mode Rolling begin a run, which goes on by itself; with noApply they do not."""
    text = lab.program.model(lab.set_name, lab.names, batch=50, upgrade_domains=2, policy="  mode: Rolling\n")
    lab.program("set-define", "--no-apply", "-", stdin=text)
    behind = live.ask("PATCH", f"{live.set}?noApply=true", {"osProfile": {"customData": {"text": "#cloud-config\n"}}}).json["behind"]
    assert sorted(behind) == sorted(lab.names)
    assert live.get(f"{live.set}/instanceView").json["openRun"] is None
    answer = live.ask("PATCH", live.set, {"retention": {"generations": 3}}, status=202)
    assert answer.headers["Location"] == f"{live.set}/rollingUpgrades/latest" and sorted(answer.json["behind"]) == sorted(lab.names)
    wait_end(live, lab)
    assert live.ask("PATCH", live.set, {"retention": {"generations": 3}}).json["behind"] == []
    live.ask("PATCH", live.set, {"upgradePolicy": {"mode": "Manual"}, "osProfile": None})
