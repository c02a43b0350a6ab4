# SPDX-License-Identifier: LGPL-2.1-or-later
"""A network of a test's own, with a DHCP server that keeps leases, for guests of the host's libvirtd.

It lives in a network namespace of its own, and nothing of it is seen outside but one port on 127.0.0.1: a guest's network card
(libvirt's <interface type='client'>) sends its Ethernet frames there, and a hub passes them on to the others and to the one
interface of the namespace, where dnsmasq answers.  What is to reach a guest runs in the namespace, too: Network.run().

usage: dhcp_network.py --serve DIR   until the end of standard input; prints the port; dnsmasq's leases and log are in DIR
"""
import ctypes
import fcntl
import os
import selectors
import socket
import struct
import subprocess
import sys

CLONE_NEWNET = 0x40000000
TUNSETIFF, IFF_TAP, IFF_NO_PI = 0x400454CA, 0x0002, 0x1000
HOST, FIRST, LAST = "10.66.0.1", "10.66.0.50", "10.66.0.250"
MAX_FRAME = 65536


class Network:
    """A context manager; directory: an empty one for its leases and log."""

    def __init__(self, directory):
        self.dir, self.server, self.port = directory, None, None

    def __enter__(self):
        self.server = subprocess.Popen([sys.executable or "/usr/bin/python3", os.path.abspath(__file__), "--serve", self.dir],
                                       stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        self.port = int(self.server.stdout.readline())
        return self

    def __exit__(self, *exception):
        self.server.stdin.close()
        self.server.wait(timeout=10)
        self.server.stdout.close()
        return False

    def interface_xml(self, mac):
        return (f"<interface type='client'><mac address='{mac}'/><source address='127.0.0.1' port='{self.port}'/>"
                "<model type='virtio'/></interface>")

    def command(self, *argv):
        """That runs a program in this network."""
        return ["nsenter", f"--net=/proc/{self.server.pid}/ns/net", *argv]

    def run(self, *argv, timeout=30):
        """What a program that runs in this network prints."""
        return subprocess.run(self.command(*argv), capture_output=True, text=True, timeout=timeout, check=True).stdout

    def leases(self):
        """Address -> (MAC, client id), as the server has them."""
        with open(os.path.join(self.dir, "leases"), encoding="ascii") as file:
            words = [line.split() for line in file]
        return {address: (mac, client) for _, mac, address, _, client in (one for one in words if len(one) == 5)}


class Hub:
    """Passes each frame on to all others: those of the clients' connections have a length of 4 bytes before them."""

    def __init__(self, listener, tap):
        self.listener, self.tap, self.clients = listener, tap, {}
        self.selector = selectors.DefaultSelector()
        self.selector.register(listener, selectors.EVENT_READ, self.accept)
        self.selector.register(tap, selectors.EVENT_READ, self.from_tap)

    def accept(self, _):
        client, _ = self.listener.accept()
        client.settimeout(1)
        self.clients[client] = b""
        self.selector.register(client, selectors.EVENT_READ, self.from_client)

    def from_tap(self, _):
        self.pass_on(os.read(self.tap, MAX_FRAME), None)

    def from_client(self, client):
        try:
            data = client.recv(MAX_FRAME)
        except OSError:
            data = b""
        if not data:
            self.drop(client)
            return
        data = self.clients[client] + data
        while len(data) >= 4 and len(data) >= 4 + int.from_bytes(data[:4], "big"):
            end = 4 + int.from_bytes(data[:4], "big")
            os.write(self.tap, data[4:end])
            self.pass_on(data[4:end], client)
            data = data[end:]
        self.clients[client] = data

    def pass_on(self, frame, sender):
        for client in [one for one in self.clients if one is not sender]:
            try:
                client.sendall(struct.pack(">I", len(frame)) + frame)
            except OSError:
                self.drop(client)

    def drop(self, client):
        self.selector.unregister(client)
        del self.clients[client]
        client.close()

    def serve_until(self, file):
        self.selector.register(file, selectors.EVENT_READ, None)
        while True:
            for key, _ in self.selector.select():
                if key.data is None:
                    return
                if key.fileobj in self.selector.get_map():  # it may have been dropped in this round
                    key.data(key.fileobj)


def make_tap():
    """In this process's network namespace, up, with the host's address."""
    tap = os.open("/dev/net/tun", os.O_RDWR)
    fcntl.ioctl(tap, TUNSETIFF, struct.pack("16sH22x", b"tap0", IFF_TAP | IFF_NO_PI))
    for command in (["link", "set", "lo", "up"], ["address", "add", f"{HOST}/24", "dev", "tap0"], ["link", "set", "tap0", "up"]):
        subprocess.run(["ip", *command], check=True)
    return tap


def start_dnsmasq(directory):
    return subprocess.Popen(["dnsmasq", "--keep-in-foreground", "--conf-file=/dev/null", "--user=root", "--port=0", "--interface=tap0",
                             "--bind-interfaces", "--dhcp-authoritative", f"--dhcp-range={FIRST},{LAST},1h",
                             f"--dhcp-leasefile={directory}/leases", f"--log-facility={directory}/dnsmasq.log", "--log-dhcp",
                             f"--pid-file={directory}/dnsmasq.pid"], stdin=subprocess.DEVNULL)


def serve(directory):
    listener = socket.create_server(("127.0.0.1", 0))  # outside, where QEMU is
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.unshare(CLONE_NEWNET) != 0:
        raise OSError(ctypes.get_errno(), "unshare(CLONE_NEWNET)")
    tap = make_tap()
    dnsmasq = start_dnsmasq(directory)
    print(listener.getsockname()[1], flush=True)
    try:
        Hub(listener, tap).serve_until(sys.stdin)
    finally:
        dnsmasq.terminate()
        dnsmasq.wait()


if __name__ == "__main__":
    if len(sys.argv) != 3 or sys.argv[1] != "--serve":
        sys.exit(__doc__)
    serve(sys.argv[2])
