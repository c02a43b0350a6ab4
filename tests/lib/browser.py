# SPDX-License-Identifier: LGPL-2.1-or-later
"""A page in headless Chromium: what it becomes there, as a reader has it, on paper too; and axe-core's findings."""
import json
import os
import re
import shutil
import subprocess
import tarfile

AXE = "axe-core@4.10.3"
FLAGS = ["--headless", "--no-sandbox", "--disable-gpu", "--no-first-run", "--disable-background-networking", "--virtual-time-budget=20000"]


def missing():
    """Why no browser can be asked; None when one can."""
    return None if shutil.which("chromium") else "no chromium"


def _run(work, *arguments):
    done = subprocess.run(["chromium", *FLAGS, f"--user-data-dir={work}/profile", *arguments], capture_output=True, text=True,
                          timeout=120, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout


def evaluate(work, page, script, width=1100, libraries=(), dark=False):
    """The value of an expression (or of what it promises) in the page: text of HTML, whose own policy forbids scripts."""
    body = "".join(f"<script>{library}</script>" for library in libraries)
    body += ("<script>addEventListener('load', () => Promise.resolve(" + script + ").then(value => {"
             "const out = document.createElement('pre'); out.id = 'value'; out.textContent = encodeURIComponent(JSON.stringify(value));"
             "document.body.append(out)}))</script>")
    text, count = re.subn(r'<meta http-equiv="Content-Security-Policy"[^>]*>', "", page)
    assert count == 1
    path = os.path.join(work, "page.html")
    with open(path, "w", encoding="utf-8") as file:
        file.write(text.replace("</body>", body + "</body>"))
    flags = ["--blink-settings=preferredColorScheme=0"] if dark else []
    dom = _run(work, *flags, f"--window-size={width},900", "--dump-dom", f"file://{path}")
    found = re.search(r'<pre id="value">([^<]*)</pre>', dom)
    assert found, dom[-2000:]
    return json.loads(re.sub(r"(%[0-9A-Fa-f]{2})+", lambda match: bytes.fromhex(match[0].replace("%", "")).decode(), found[1]))


def on_paper(work, page):
    """The text of the page as it is printed."""
    path, pdf = os.path.join(work, "print.html"), os.path.join(work, "print.pdf")
    with open(path, "w", encoding="utf-8") as file:
        file.write(page)
    _run(work, f"--print-to-pdf={pdf}", f"file://{path}")
    return subprocess.run(["pdftotext", "-layout", pdf, "-"], capture_output=True, text=True, timeout=60, check=True).stdout


def axe_core(work):
    """Its source, from npm; None where there is no npm."""
    if not shutil.which("npm"):
        return None
    done = subprocess.run(["npm", "pack", "--silent", AXE], cwd=work, capture_output=True, text=True, timeout=120, check=False)
    if done.returncode != 0:
        return None
    with tarfile.open(os.path.join(work, done.stdout.strip())) as archive:
        return archive.extractfile("package/axe.min.js").read().decode()
