# SPDX-License-Identifier: LGPL-2.1-or-later
"""F11, J10: the page of one run says what its JSON says, and needs nothing but itself. That each key of the schema is on it: tests/orchestrator/report.py."""
import html.parser
import os
import re
import sqlite3

import pytest

from lib import browser
from program import FAILED, IMAGE, NO_LIBVIRT, POLICY, USAGE, crashing_image

SPREADS = ("offMs", "osDownMs", "prepareMs", "stopMs", "switchMs", "startMs", "healthyMs")


class Page(html.parser.HTMLParser):
    """The rows of its tables by section, the bars of its timeline by row, and every attribute that could load something."""
    VOID = {"meta", "br", "line", "rect"}

    def __init__(self, text):
        super().__init__()
        self.rows, self.open, self.section, self.loads, self.text, self.bars, self.cell = {}, [], None, [], [], [], None
        self.feed(text)
        assert self.open == [], self.open

    def handle_starttag(self, tag, attrs):
        attributes = dict(attrs)
        if tag not in self.VOID:
            self.open.append(tag)
        if tag == "rect" and "title" not in attributes and self.section == "timeline" and "batch" not in attributes["class"]:
            self.bars.append(attributes["class"])
        self.loads += [f"{tag} {name}={value}" for name, value in attrs if name in ("src", "href", "srcset", "data", "action")]
        if tag == "section":
            self.section = attributes["id"]
        elif tag == "tr":
            self.rows.setdefault(self.section, []).append([])
        elif tag in ("td", "th"):
            self.cell = []

    def handle_startendtag(self, tag, attrs):
        self.handle_starttag(tag, attrs)
        if tag not in self.VOID:
            self.open.pop()

    def handle_endtag(self, tag):
        if tag in self.VOID:
            return
        assert self.open.pop() == tag
        if tag in ("td", "th"):
            self.rows[self.section][-1].append("".join(self.cell).strip())
            self.cell = None

    def handle_data(self, data):
        self.text.append(data)
        if self.cell is not None:
            self.cell.append(data)


def shown(ms):
    """As the program shows a duration."""
    if ms is None:
        return "-"
    return f"{ms} ms" if ms < 1000 else f"{ms / 1000:.1f} s" if ms < 60000 else None


@pytest.fixture(scope="module", name="lab")
def fixture_lab(make_lab):
    lab = make_lab(2, "report")
    lab.program("image-publish", IMAGE, "9.0.0", crashing_image(lab.program, "9.0.0"))
    lab.program("upgrade", lab.set_name, "--version", "2.0.0")
    lab.program("upgrade", lab.set_name, "--version", "9.0.0", status=POLICY)
    return lab


def report(lab, number):
    """The newest run is 0: its JSON and its page."""
    program, run = lab.program, lab.program.json("history", lab.set_name)["runs"][number]["runId"]
    file = program.path("run.html")
    program("history", lab.set_name, "--run", run, "--html", file)
    with open(file, encoding="utf-8") as page:
        text = page.read()
    assert oct(os.stat(file).st_mode & 0o777) == "0o644"
    assert program("history", lab.set_name, "--run", run, "--html", "-").out == text
    return program.json("history", lab.set_name, "--run", run), text, Page(text)


@pytest.mark.parametrize("number", [0, 1])
def test_it_says_what_the_json_says(lab, number):
    document, text, page = report(lab, number)
    assert document["events"][0]["kind"] == "run-begin" and document["events"][-1]["kind"] == "run-end"
    rows, times = ({row[0]: row for row in page.rows[section][1:]} for section in ("instances", "times"))
    assert set(rows) == set(times) == set(lab.names)
    for one in document["instances"]:
        assert rows[one["domain"]][1:] == [str(one["batch"]), one["phase"], f"{one['fromGeneration']} ({one['fromVersion']})",
                                           f"{one['toGeneration']} ({one['toVersion']})", one["targetVersion"], one["swapState"],
                                           one["reason"] or "-", one["uuid"]]
        assert times[one["domain"]][1:] == [shown(one["times"][key]) for key in ("offMs", "osDownMs", "prepareMs", "stopMs", "switchMs",
                                                                                "nvramMs", "startMs", "healthyMs")]
        assert [span["phase"] for span in one["timeline"]][:6] == ["prepare", "wait", "stop", "switch", "start", "health"]
        assert [span["durationMs"] is not None for span in one["timeline"]] == [True] * len(one["timeline"])
        for span in one["timeline"]:
            assert f"<title>{span['phase']}: {shown(span['durationMs'])}</title>" in text
    spans = [(one["domain"], span) for one in document["instances"] for span in one["timeline"]]
    assert page.bars[:-7] == [span["phase"] for _, span in spans]  # then the legend
    assert [row[:2] + row[3:] for row in page.rows["timeline"][1:]] == [[name, span["phase"], shown(span["offsetMs"]), shown(span["durationMs"])]
                                                                        for name, span in spans]
    assert [row[1] for row in page.rows["events"][1:]] == [event["kind"] for event in document["events"]]
    assert all(f'<time datetime="{event["time"]}">' in text for event in document["events"])
    proofs = [(one["domain"], one["dataDisks"]) for one in document["instances"]]
    disks = [[name, disk["target"], disk["path"], str(disk["sizeBytes"]), str(disk["depth"]), "no", "no", str(disk["device"]), str(disk["inode"]),
              disk["headSha256"], disk["contentSha256"] or "-"] for name, proof in proofs for disk in proof["disks"]]
    readings = len(proofs) + 1
    assert [row[0] for row in page.rows["disks"][1:readings]] == lab.names and disks and page.rows["disks"][readings + 1:] == disks
    for key, row in zip(SPREADS, page.rows["downtime"][1:], strict=True):
        spread = document["times"][key]
        assert row[1:] == [shown(spread["p50"]), shown(spread["p95"]), shown(spread["max"]), str(spread["count"])]


def test_a_run_that_failed(lab):
    document, _, page = report(lab, 0)
    text = "".join(page.text)
    assert document["error"]["code"] in text and document["error"]["message"] in text
    for one in document["instances"]:
        assert one["timeline"][-1]["phase"] == "back" and f"restored: {one['reason']}" in text


def test_it_needs_nothing_else(lab):
    _, text, page = report(lab, 1)
    assert all(load.startswith("a href=#") for load in page.loads), page.loads
    assert not re.search(r"url\(|@import|<script|https?://", text)
    assert "default-src 'none'" in text


class TestInABrowser:
    """Headless Chromium, with what a reader meets: a wide and a narrow window, dark, paper, a screen reader's rules."""

    @pytest.fixture(autouse=True)
    def chromium(self):
        if browser.missing():
            pytest.skip(browser.missing())

    def test_all_of_it_is_drawn(self, lab, tmp_path):
        document, text, _ = report(lab, 0)
        seen = browser.evaluate(tmp_path, text, "[...document.querySelectorAll('#timeline .chart rect:not(.batch)')].map(bar => "
                                "[bar.getAttribute('class'), bar.getBoundingClientRect().width, getComputedStyle(bar).fill])")
        assert [bar[0] for bar in seen] == [span["phase"] for one in document["instances"] for span in one["timeline"]]
        assert all(width > 0 for _, width, _ in seen)
        assert len({fill for _, _, fill in seen}) == len({kind for kind, _, _ in seen})

    @pytest.mark.parametrize("width", [500, 1600])  # no window of Chromium is narrower
    def test_it_fits_the_window(self, lab, tmp_path, width):
        """What is wider scrolls by itself, and the keyboard can do that."""
        _, text, _ = report(lab, 1)
        page, wider = browser.evaluate(tmp_path, text, "[[document.documentElement.scrollWidth, innerWidth], [...document.querySelectorAll('*')]"
                                       ".filter(e => e.scrollWidth > e.clientWidth && getComputedStyle(e).overflowX != 'visible')"
                                       ".map(e => e.tabIndex)]", width=width)
        assert page[0] <= page[1] and set(wider) <= {0}
        assert wider or width > 500

    def test_on_paper(self, lab, tmp_path):
        document, text, _ = report(lab, 0)
        printed = browser.on_paper(tmp_path, text)
        for word in [document["runId"], *lab.names, "goes back to its old disk", document["events"][-1]["kind"]]:
            assert word in printed

    @pytest.mark.parametrize("dark", [False, True])
    def test_axe_finds_nothing_serious(self, lab, tmp_path, dark):
        axe = browser.axe_core(tmp_path)
        if not axe:
            pytest.skip("no npm, from which axe-core comes")
        _, text, _ = report(lab, 0)
        found = browser.evaluate(tmp_path, text, "axe.run().then(r => ({passes: r.passes.length, dark: matchMedia('(prefers-color-scheme:"
                                 "dark)').matches, violations: r.violations.map(v => [v.id, v.impact, v.nodes[0].html])}))",
                                 libraries=[axe], dark=dark)
        assert found["passes"] > 10 and found["dark"] == dark
        assert found["violations"] == []


def test_what_others_wrote_is_escaped(lab):
    db = sqlite3.connect(os.path.join(lab.program.root, "state.db"))
    run = lab.program.json("history", lab.set_name)["runs"][0]["runId"]
    nasty = "<script>alert(1)</script>\"'&\x1b[31m"
    db.execute("UPDATE run_instances SET reason = ? WHERE run_id = ?", (nasty, run))
    db.execute("UPDATE runs SET reason = ?, error_text = ? WHERE id = ?", (nasty, nasty, run))
    db.commit()
    db.close()
    _, text, page = report(lab, 0)
    assert "<script" not in text and "\x1b" not in text
    assert "<script>alert(1)</script>\"'&" in "".join(page.text)


def test_wrong_words(lab):
    program, run = lab.program, lab.program.json("history", lab.set_name)["runs"][0]["runId"]
    assert "--run" in program.fails(USAGE, "history", lab.set_name, "--html", program.path("x.html"))
    assert "--json" in program.fails(USAGE, "--json", "history", lab.set_name, "--run", run, "--html", program.path("x.html"))
    missing = program.path("nowhere/x.html")
    assert missing in program.fails(FAILED, "history", lab.set_name, "--run", run, "--html", missing)
    assert not os.path.exists(program.path("x.html"))


def test_a_run_that_moved_nobody(defined):
    db = sqlite3.connect(os.path.join(defined.root, "state.db"))
    db.execute("INSERT INTO runs (id, set_name, kind, status, image, version, started_by, started_us, completed_us)"
               " VALUES ('run-1', 'shop', 0, 0, 'cheap', '3.0.0', 'somebody', 1795400942234751, 0)")
    db.commit()
    db.close()
    page = Page(defined("-c", NO_LIBVIRT, "history", "shop", "--run", "run-1", "--html", "-").out)
    assert "No instance was swapped." in "".join(page.text) and "not yet" in "".join(page.text)
