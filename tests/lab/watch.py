# SPDX-License-Identifier: LGPL-2.1-or-later
"""Watches from outside which of the lab's guests are down: by libvirt's own events, so that nothing falls between two looks.

A guest is off from the event that it stopped to the event that it started, and away until its console says that the new boot is up.
"""

import functools
import os
import threading
from collections import Counter

import libvirt

from guest import URI

UP = b"lab-guest: version "
TICK_MS = 100


@functools.cache
def serve_events():
    """Once, for the whole life of this process: then libvirtd drops each connection that it has, also one that waits for no event, when nobody
    answers its keepalive messages for half a minute."""
    def serve():
        while True:
            libvirt.virEventRunDefaultImpl()
    libvirt.virEventRegisterDefaultImpl()
    threading.Thread(target=serve, daemon=True).start()


class Watch:
    """As long as the with block lasts; then .offs and .aways hold the sets of guests that were down together, and .stops how often each was."""

    def __init__(self, guests):
        self.guests = {guest.name: guest for guest in guests}
        self.off, self.booting = set(), {}  # booting: name -> size of its console when it was started
        self.offs, self.aways, self.stops = [], [], Counter()
        self.connection = self.timer = None

    def __enter__(self):
        self.consoles = {name: guest.xml().find("devices/serial/source").get("path") for name, guest in self.guests.items()}
        serve_events()
        self.connection = libvirt.open(URI)
        self.connection.domainEventRegisterAny(None, libvirt.VIR_DOMAIN_EVENT_ID_LIFECYCLE, self.on_event, None)
        self.timer = libvirt.virEventAddTimeout(TICK_MS, self.on_tick, None)
        assert all(guest.state() == "running" for guest in self.guests.values())
        return self

    def __exit__(self, *exception):
        libvirt.virEventRemoveTimeout(self.timer)
        self.connection.close()

    def on_event(self, _connection, domain, event, _detail, _opaque):
        name = domain.name()
        if name not in self.guests:
            return
        if event == libvirt.VIR_DOMAIN_EVENT_STOPPED:
            self.off.add(name)
            self.booting.pop(name, None)
            self.stops[name] += 1
        elif event == libvirt.VIR_DOMAIN_EVENT_STARTED:
            self.off.discard(name)
            self.booting[name] = os.stat(self.consoles[name]).st_size
        self.note()

    def on_tick(self, _timer, _opaque):
        for name, size in list(self.booting.items()):
            with open(self.consoles[name], "rb") as console:
                console.seek(size)
                if UP in console.read():
                    del self.booting[name]
        self.note()

    def note(self):
        for seen, now in ((self.offs, frozenset(self.off)), (self.aways, frozenset(self.off | self.booting.keys()))):
            if now and (not seen or seen[-1] != now):
                seen.append(now)
