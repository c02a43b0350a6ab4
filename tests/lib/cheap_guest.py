# SPDX-License-Identifier: LGPL-2.1-or-later
"""A guest that costs next to nothing: its whole operating system is one boot sector.

It starts in half a second under TCG, says its version on the serial console, and powers
itself off when its ACPI power button is pressed, as a good guest does.  Options make the bad
ones: one that ignores the button, one that reboots at it, one that does not boot.  Everything about it is real to
libvirt and QEMU: OS disk, data disks, temp disk, network, agent channel.

A Fleet is a number of them with their files in one directory under /var/lib, where QEMU's user
can reach them; leaving its `with` block removes guests and files whatever happened.

usage: cheap_guest.py PATH VERSION FORMAT [deaf|reboots|ends]    makes an OS disk, for tests that are not Python
"""
import os
import shutil
import struct
import subprocess
import sys
import tempfile
import time
import uuid as uuid_module
from xml.etree import ElementTree
from xml.sax.saxutils import quoteattr

import libvirt

URI = os.environ.get("LIBVIRT_DEFAULT_URI", "qemu:///system")
STATE_DIR = "/var/lib"
DIR_PREFIX = "virt-reimage-test-"
MIB = 1024 * 1024
LINUX_AT, LINUX_BYTES = MIB, 16 * MIB  # the partition of a disk with a Linux

# libvirt's errors are raised; it need not print them too.
libvirt.registerErrorHandler(lambda context, error: None, None)

# The boot sector, loaded by SeaBIOS at 0x7c00 in real mode.  The ports are those of the i440fx
# machine (PIIX4 power management at 0x600, where SeaBIOS puts it): PM1 status 0x600,
# PM1 enable 0x602, PM1 control 0x604.  `hlt` sleeps until the timer's next tick (18.2 Hz).
CODE = bytes.fromhex(
    "fa"          # 00 start:  cli
    "31c0"        # 01         xor  ax, ax
    "8ed8"        # 03         mov  ds, ax
    "8ed0"        # 05         mov  ss, ax
    "bc007c"      # 07         mov  sp, 0x7c00
    "fc"          # 0a         cld
    "be607c"      # 0b         mov  si, 0x7c60      the banner
    "ac"          # 0e next:   lodsb
    "84c0"        # 0f         test al, al
    "7406"        # 11         jz   listen
    "baf803"      # 13         mov  dx, 0x3f8       COM1
    "ee"          # 16         out  dx, al
    "ebf5"        # 17         jmp  next
    "ba0206"      # 19 listen: mov  dx, 0x602
    "ed"          # 1c         in   ax, dx
    "80cc01"      # 1d         or   ah, 1           PWRBTN_EN
    "ef"          # 20         out  dx, ax
    "fb"          # 21         sti
    "f4"          # 22 wait:   hlt
    "ba0006"      # 23         mov  dx, 0x600
    "ed"          # 26         in   ax, dx
    "f6c401"      # 27         test ah, 1           PWRBTN_STS
    "74f6"        # 2a         jz   wait
    "ba0406"      # 2c         mov  dx, 0x604
    "b80020"      # 2f         mov  ax, 0x2000      SLP_EN with type 0: soft off
    "ef"          # 32         out  dx, ax
    "ebed"        # 33         jmp  wait
)
JZ_WAIT = 0x2A
SOFT_OFF = 0x2C
REBOOT = bytes.fromhex(
    "b0fe"        # 2c         mov  al, 0xfe
    "e664"        # 2e         out  0x64, al        the keyboard controller pulses the reset line
    "f4"          # 30 dead:   hlt
    "ebfd"        # 31         jmp  dead
    "9090"
)
COUNT_AT, COUNT = 0x5F, 40
LAST_WORDS = bytes.fromhex(
    "fe0e5f7c"    # 23         dec  byte [0x7c5f]
    "7403"        # 27         jz   0x2c
    "ebe0"        # 29         jmp  0x0b            the banner again
    "90"
)
BANNER_AT = 0x60
BANNER_MAX = 0x1B8 - BANNER_AT - 1


def banner(version):
    """What the guest prints once at boot."""
    return f"cheap guest version {version}\r\n"


def boot_sector(version, ignore_acpi=False, boots=True, reboots=False, ends=False, last_words=False):
    """The 512 bytes of the guest's operating system.  reboots: it does that when it should power itself off; ends: it powers itself
    off at the first tick of its clock; last_words: it prints its banner at each tick, for two seconds, and then does so."""
    code = bytearray(CODE)
    if last_words:
        code[0x23 : 0x23 + len(LAST_WORDS)] = LAST_WORDS
    if ends:
        code[JZ_WAIT : JZ_WAIT + 2] = b"\x90\x90"  # it looks at the button, and does not care
    if reboots:
        code[SOFT_OFF : SOFT_OFF + len(REBOOT)] = REBOOT
    if ignore_acpi:
        code[JZ_WAIT] = 0xEB  # jz becomes jmp: it never looks at the button
    text = banner(version).encode()
    if len(text) > BANNER_MAX:
        raise ValueError("the version is too long for a boot sector")
    sector = bytearray(512)
    sector[: len(code)] = code
    sector[COUNT_AT] = COUNT
    sector[BANNER_AT : BANNER_AT + len(text)] = text
    if boots:
        sector[510:] = b"\x55\xaa"  # without it the BIOS finds nothing to boot
    return bytes(sector)


def add_linux(disk, files):
    """A partition with the files ({path: text}) of a Linux beside the boot sector: for who looks into the disk; the guest never does."""
    with tempfile.TemporaryDirectory() as top:
        for path, text in {"/usr/bin/true": "", "/etc/passwd": "root:x:0:0:root:/root:/bin/sh\n", **files}.items():
            os.makedirs(top + os.path.dirname(path), exist_ok=True)
            with open(top + path, "w", encoding="utf-8") as file:
                file.write(text)
        os.chmod(top, 0o755)
        subprocess.run(["mkfs.ext4", "-q", "-d", top, "-E", f"offset={LINUX_AT}", disk, f"{LINUX_BYTES // 1024}k"], check=True)
    add_partition(disk, 0x83)


def add_partition(disk, kind):
    with open(disk, "r+b") as file:
        file.seek(0x1BE)
        file.write(struct.pack("<B3sB3sII", 0, bytes(3), kind, bytes(3), LINUX_AT // 512, LINUX_BYTES // 512))


def add_windows(disk):
    """The same with the directories of Windows, on NTFS, mounted where nobody else has a copy of the mount."""
    with tempfile.TemporaryDirectory(dir=STATE_DIR) as top:
        part = os.path.join(top, "part")
        with open(part, "wb") as file:
            file.truncate(LINUX_BYTES)
        subprocess.run(["mkntfs", "-q", "-F", "-f", part], check=True, capture_output=True)
        subprocess.run(["unshare", "-m", "sh", "-ec", "mkdir at; mount -t ntfs-3g -o loop part at; cd at; mkdir -p "
                        "Windows/System32 Windows/Panther 'Program Files'; cd ..; umount at"], cwd=top, check=True)
        subprocess.run(["dd", f"if={part}", f"of={disk}", "bs=64k", f"seek={LINUX_AT}", "oflag=seek_bytes", "conv=notrunc",
                        "status=none"], check=True)
    add_partition(disk, 7)


def linux_file(disk, path):
    """The text of a file in the partition of a disk that nobody has open, or None."""
    with tempfile.TemporaryDirectory(dir=STATE_DIR) as top:
        raw = os.path.join(top, "raw")
        subprocess.run(["qemu-img", "convert", "-O", "raw", "-U", disk, raw], check=True)
        done = subprocess.run(["debugfs", "-R", f"cat {path}", f"{raw}?offset={LINUX_AT}"], capture_output=True, text=True, check=True)
    return None if "File not found" in done.stderr else done.stdout


def windows_file(disk, path):
    """The same of a disk with Windows."""
    with tempfile.TemporaryDirectory(dir=STATE_DIR) as top:
        raw, part = os.path.join(top, "raw"), os.path.join(top, "part")
        subprocess.run(["qemu-img", "convert", "-O", "raw", "-U", disk, raw], check=True)
        subprocess.run(["dd", f"if={raw}", f"of={part}", "bs=64k", f"skip={LINUX_AT}", "iflag=skip_bytes", "status=none"], check=True)
        return subprocess.run(["ntfscat", "-f", part, path], capture_output=True, text=True, check=True).stdout


def write_os_disk(path, version, disk_format="raw", ignore_acpi=False, boots=True, size=MIB, reboots=False, ends=False, linux=None,
                  windows=False, last_words=False):
    """Makes an OS disk of the version; a qcow2 one has no backing file. linux: files of the Linux that is on it, too. windows: its
    directories are."""
    raw = path if disk_format == "raw" else path + ".raw"
    with open(raw, "wb") as disk:
        disk.write(boot_sector(version, ignore_acpi, boots, reboots, ends, last_words))
        disk.truncate(size if linux is None and not windows else LINUX_AT + LINUX_BYTES)
    if linux is not None:
        add_linux(raw, linux)
    if windows:
        add_windows(raw)
    if disk_format != "raw":
        subprocess.run(["qemu-img", "convert", "-f", "raw", "-O", disk_format, raw, path], check=True)
        os.unlink(raw)
    return path


def write_data_disk(path, size=MIB, seed=b"data"):
    """A raw data disk with a content that can be told from any other's."""
    with open(path, "wb") as disk:
        disk.write((seed + b" " + os.path.basename(path).encode() + b"\n") * 64)
        disk.truncate(size)
    return path


def disk_xml(path, disk_format, target, serial=None, extra=""):
    serial_xml = f"<serial>{serial}</serial>" if serial else ""
    return (f"<disk type='file' device='disk'><driver name='qemu' type='{disk_format}'/>"
            f"<source file={quoteattr(path)}/><target dev='{target}' bus='virtio'/>{serial_xml}{extra}</disk>")


def domain_xml(name, os_path, os_format="qcow2", uuid=None, data=(), temp=None, mac=None, console=None,
               agent=False, memory_mib=16, extra_devices="", os_extra=""):
    """The domain.  data: (path, format, serial) each, vdb and on; temp: a path, the last disk.

    libvirt asks QEMU for each feature of the CPU when a guest starts: hundreds of questions, three quarters of the time that a guest with
    a boot sector takes to start.  Without the capability it asks twice.  The guests of the lab keep it."""
    disks = [disk_xml(os_path, os_format, "vda", "OS01", os_extra)]
    more = list(data) + ([(temp, "raw", "TEMP01")] if temp else [])
    for letter, (path, disk_format, serial) in zip("bcdefghijkl", more):
        disks.append(disk_xml(path, disk_format, "vd" + letter, serial))
    devices = "".join(disks)
    if mac:
        devices += f"<interface type='user'><mac address='{mac}'/><model type='virtio'/></interface>"
    if console:
        devices += (f"<serial type='file'><source path={quoteattr(console)} append='on'/>"
                    "<target port='0'/></serial>")
    if agent:
        devices += "<channel type='unix'><target type='virtio' name='org.qemu.guest_agent.0'/></channel>"
    return f"""<domain type='qemu' xmlns:qemu='http://libvirt.org/schemas/domain/qemu/1.0'>
  <name>{name}</name>
  <uuid>{uuid or uuid_module.uuid4()}</uuid>
  <memory unit='MiB'>{memory_mib}</memory>
  <vcpu>1</vcpu>
  <os><type arch='x86_64' machine='pc'>hvm</type><boot dev='hd'/></os>
  <features><acpi/></features>
  <on_poweroff>destroy</on_poweroff>
  <on_reboot>restart</on_reboot>
  <on_crash>destroy</on_crash>
  <devices>
    {devices}
    <controller type='usb' model='none'/>
    <memballoon model='none'/>
    {extra_devices}
  </devices>
  <qemu:capabilities><qemu:del capability='cpu-unavailable-features'/></qemu:capabilities>
</domain>
"""


UNDEFINE_FLAGS = (libvirt.VIR_DOMAIN_UNDEFINE_MANAGED_SAVE | libvirt.VIR_DOMAIN_UNDEFINE_SNAPSHOTS_METADATA |
                  libvirt.VIR_DOMAIN_UNDEFINE_CHECKPOINTS_METADATA | libvirt.VIR_DOMAIN_UNDEFINE_NVRAM)


def remove_domain(domain):
    """Destroys and undefines, whatever state it is in; a domain that is gone is fine, and any other error is raised."""
    off = (libvirt.VIR_ERR_NO_DOMAIN, libvirt.VIR_ERR_OPERATION_INVALID)
    for step, fine in ((domain.destroy, off), (lambda: domain.undefineFlags(UNDEFINE_FLAGS), (libvirt.VIR_ERR_NO_DOMAIN,))):
        try:
            step()
        except libvirt.libvirtError as error:
            if error.get_error_code() not in fine:
                raise


def sweep(prefix, uri=URI):
    """Removes the guests that a killed test left behind.  Their files go with the next Fleet's."""
    connection = libvirt.open(uri)
    for domain in connection.listAllDomains():
        if domain.name().startswith(prefix):
            remove_domain(domain)
    connection.close()


class Guest:
    """One guest of a fleet: its paths and its libvirt domain."""

    def __init__(self, fleet, name, index):
        self.fleet = fleet
        self.name = name
        self.uuid = str(uuid_module.uuid4())
        self.mac = f"52:54:00:c6:{index // 256:02x}:{index % 256:02x}"
        self.os_disk = fleet.path(f"{name}.os.{fleet.os_format}")
        self.data = [(fleet.path(f"{name}.data{i}.raw"), "raw", f"DATA{i:02d}") for i in range(1, fleet.n_data + 1)]
        self.temp = fleet.path(f"{name}.temp.raw") if fleet.temp else None
        self.console = fleet.path(f"{name}.console.log")
        self.domain = None

    def make_files(self, version, **options):
        write_os_disk(self.os_disk, version, self.fleet.os_format, **options)
        for path, _, _ in self.data:
            write_data_disk(path, seed=self.name.encode())
        if self.temp:
            write_data_disk(self.temp, seed=b"temp")

    def xml(self, **changes):
        settings = {"name": self.name, "os_path": self.os_disk, "os_format": self.fleet.os_format,
                    "uuid": self.uuid, "data": self.data, "temp": self.temp, "mac": self.mac,
                    "console": self.console, "agent": self.fleet.agent}
        return domain_xml(**{**settings, **changes})

    def define(self, **changes):
        self.domain = self.fleet.connection.defineXML(self.xml(**changes))
        return self.domain

    def start(self):
        self.domain.create()

    def destroy(self):
        if self.domain.isActive():
            self.domain.destroy()

    def is_running(self):
        return self.domain.isActive() == 1

    def console_text(self):
        try:
            with open(self.console, encoding="utf-8", errors="replace") as log:
                return log.read()
        except FileNotFoundError:
            return ""

    def booted_versions(self):
        """The versions it printed, one for each boot, oldest first."""
        mark = banner("").strip() + " "
        return [line[len(mark):].strip() for line in self.console_text().splitlines() if line.startswith(mark)]

    def wait_boot(self, version, timeout=20, boots=1):
        """Waits until it has booted `boots` times, the last one into this version."""
        def booted():
            seen = self.booted_versions()
            return len(seen) >= boots and seen[-1] == version
        wait_for(booted, timeout, f"{self.name} boots {version}; it printed {self.booted_versions()}")

    def wait_off(self, timeout=20):
        wait_for(lambda: not self.is_running(), timeout, f"{self.name} is off")

    def os_element(self, flags=libvirt.VIR_DOMAIN_XML_INACTIVE):
        """<os> of its XML; flags 0: the live one."""
        return ElementTree.fromstring(self.domain.XMLDesc(flags)).find("os")

    def configured_os_disk(self):
        """The path that the inactive XML names for vda."""
        root = ElementTree.fromstring(self.domain.XMLDesc(libvirt.VIR_DOMAIN_XML_INACTIVE))
        for disk in root.iter("disk"):
            if disk.find("target").get("dev") == "vda":
                return disk.find("source").get("file")
        return None


def wait_for(condition, timeout, what):
    """Polls until the condition is true; TimeoutError names what did not happen."""
    begin = time.monotonic()
    end = begin + timeout
    while not condition():
        now = time.monotonic()
        if now > end:
            raise TimeoutError(f"not within {timeout} s: {what}")
        time.sleep(max(0.05, rest_after(now - begin)))
        begin = time.monotonic()


def rest_after(seconds):
    """How long to wait after a look that took so long: those that look by a command leave the cores to what they wait for."""
    return min(2 * seconds, 0.5)


class Fleet:
    """n guests PREFIX-0 ... with their files in one directory; a context manager that leaves nothing behind."""

    guest_class = Guest

    def __init__(self, n, prefix, version="1", os_format="qcow2", n_data=1, temp=False, agent=False, uri=URI,
                 start=False, **os_options):
        self.n, self.prefix, self.version, self.uri = n, prefix, version, uri
        self.os_format, self.n_data, self.temp, self.agent = os_format, n_data, temp, agent
        self.start_them, self.os_options = start, os_options
        self.dir = self.connection = None
        self.guests = []

    def path(self, name):
        return os.path.join(self.dir, name)

    def __enter__(self):
        try:
            self._make()
        except BaseException:
            self.clean_up()
            raise
        return self

    def _make(self):
        self.connection = libvirt.open(self.uri)
        self.dir = tempfile.mkdtemp(prefix=DIR_PREFIX, dir=STATE_DIR)
        os.chmod(self.dir, 0o711)  # QEMU's user passes through, and lists nothing
        for index in range(self.n):
            guest = self.guest_class(self, f"{self.prefix}-{index}", index)
            self.guests.append(guest)
            guest.make_files(self.version, **self.os_options)
            guest.define()
        if self.start_them:
            self.start_all()

    def start_all(self):
        for guest in self.guests:
            guest.start()
        for guest in self.guests:
            guest.wait_boot(self.version)

    def __getitem__(self, index):
        return self.guests[index]

    def __iter__(self):
        return iter(self.guests)

    def __exit__(self, *exception):
        self.clean_up()
        return False

    def _remove_guest(self, guest):
        """By UUID and on a new look-up: a test may have redefined or renamed it."""
        try:
            domain = self.connection.lookupByUUIDString(guest.uuid)
        except libvirt.libvirtError as error:
            if error.get_error_code() != libvirt.VIR_ERR_NO_DOMAIN:
                raise
        else:
            remove_domain(domain)

    def reconnect(self):
        """After a test has broken the connection, or the libvirtd behind it."""
        self.connection = libvirt.open(self.uri)
        for guest in self.guests:
            guest.domain = self.connection.lookupByUUIDString(guest.uuid)

    def _remove_guests(self):
        """All that can be removed; then the first error is raised.  A test may have broken the connection, and it need not know: so on a new one."""
        errors = []
        if self.guests:
            self.connection = libvirt.open(self.uri)
        for guest in self.guests:
            try:
                self._remove_guest(guest)
            except libvirt.libvirtError as error:
                errors.append(error)
        if errors:
            raise errors[0]

    def clean_up(self):
        try:
            self._remove_guests()
        finally:
            if self.dir:
                shutil.rmtree(self.dir, ignore_errors=True)
            if self.connection:
                self.connection.close()


if __name__ == "__main__":
    KINDS = {"deaf": {"ignore_acpi": True}, "reboots": {"reboots": True}, "ends": {"ends": True}}
    if len(sys.argv) not in (4, 5) or (len(sys.argv) == 5 and sys.argv[4] not in KINDS):
        sys.exit(__doc__)
    write_os_disk(*sys.argv[1:4], **KINDS.get("".join(sys.argv[4:]), {}))
