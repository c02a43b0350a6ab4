# SPDX-License-Identifier: LGPL-2.1-or-later
"""Certificates for tests, by openssl: an authority, and what it signs, with any dates."""
import os
import subprocess
import time

CONFIG = """[ca]
default_ca = here
[here]
new_certs_dir = {directory}
database = {directory}/index.txt
certificate = {directory}/{issuer}.pem
private_key = {directory}/{issuer}.key
rand_serial = yes
default_md = sha256
unique_subject = no
policy = any
[any]
commonName = supplied
"""
NEW_KEY = ["-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes"]
MINUTE = 60
DAY = 24 * 3600


def openssl(*arguments):
    subprocess.run(["openssl", *arguments], check=True, stdin=subprocess.DEVNULL, capture_output=True)


def stamp(seconds):
    return time.strftime("%Y%m%d%H%M%SZ", time.gmtime(seconds))


class Authority:
    """Keys and certificates NAME.key and NAME.pem in a directory; the authority itself is ca."""

    def __init__(self, directory):
        self.directory = directory
        openssl("req", "-x509", *NEW_KEY, "-days", "30", "-subj", "/CN=test authority", "-keyout", self.path("ca.key"), "-out",
                self.path("ca.pem"))
        self.write("index.txt", "")

    def path(self, name):
        return os.path.join(self.directory, name)

    def write(self, name, text):
        with open(self.path(name), "w", encoding="utf-8") as file:
            file.write(text)

    def issue(self, name, begins, ends, common_name=None, names="IP:127.0.0.1,DNS:localhost", authority=False, issuer="ca"):
        """Valid from and until so many seconds from now. Returns the path of the certificate."""
        self.write("ca.cnf", CONFIG.format(directory=self.directory, issuer=issuer))
        self.write("ext.cnf", "basicConstraints=critical,CA:TRUE\n" if authority else f"subjectAltName={names}\n")
        openssl("req", "-new", *NEW_KEY, "-subj", f"/CN={common_name or name}", "-keyout", self.path(f"{name}.key"), "-out",
                self.path(f"{name}.csr"))
        now = time.time()
        openssl("ca", "-batch", "-notext", "-config", self.path("ca.cnf"), "-extfile", self.path("ext.cnf"), "-in",
                self.path(f"{name}.csr"), "-out", self.path(f"{name}.pem"), "-startdate", stamp(now + begins), "-enddate",
                stamp(now + ends))
        return self.path(f"{name}.pem")
