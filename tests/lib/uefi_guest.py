# SPDX-License-Identifier: LGPL-2.1-or-later
"""A guest that boots by UEFI and costs little: its whole operating system is one EFI application.

It is what cheap_guest is for the BIOS: it says its version on the serial console and powers itself off when its
ACPI power button is pressed.  Before that it writes a variable of its own, named after its version, into the
NVRAM, as a boot loader writes its boot entry; so a file shows which systems ran on it.  The disk has an MBR with
an EFI system partition, and the application is its \\EFI\\BOOT\\BOOTX64.EFI.  Firmware: Debian's ovmf.
"""
import os
import struct
import subprocess

from lib import cheap_guest
from lib.cheap_guest import MIB

CODE_FILE = "/usr/share/OVMF/OVMF_CODE_4M.fd"
VARS_FILE = "/usr/share/OVMF/OVMF_VARS_4M.fd"
SECURE_CODE_FILE = "/usr/share/OVMF/OVMF_CODE_4M.ms.fd"
SECURE_VARS_FILE = "/usr/share/OVMF/OVMF_VARS_4M.ms.fd"
MEMORY_MIB = 128

# x86-64, position-independent; rdx is the EFI system table.  Ports: COM1 at 0x3f8; power management of the q35
# machine at 0x600, where OVMF puts it (status 0x600, enable 0x602, control 0x604).
CODE = bytes.fromhex(
    "4883e4f0"          # 00         and  rsp, -16
    "4883ec30"          # 04         sub  rsp, 48
    "4889d3"            # 08         mov  rbx, rdx
    "31c931d2"          # 0b         xor  ecx, ecx; xor edx, edx
    "4531c04531c9"      # 0f         xor  r8d, r8d; xor r9d, r9d
    "488b4360"          # 15         mov  rax, [rbx+96]    boot services
    "ff9000010000"      # 19         call [rax+256]        SetWatchdogTimer(0, 0, 0, NULL)
    "488d0d6a000000"    # 1f         lea  rcx, [name]
    "488d1553000000"    # 26         lea  rdx, [guid]
    "41b807000000"      # 2d         mov  r8d, 7           non-volatile, at boot, at run time
    "41b901000000"      # 33         mov  r9d, 1
    "4889542420"        # 39         mov  [rsp+32], rdx    one byte: the guid's first
    "488b4358"          # 3e         mov  rax, [rbx+88]    runtime services
    "ff5058"            # 42         call [rax+88]         SetVariable
    "488d35b4000000"    # 45         lea  rsi, [banner]
    "66baf803"          # 4c         mov  dx, 0x3f8
    "ac"                # 50 next:   lodsb
    "84c0"              # 51         test al, al
    "7403"              # 53         jz   listen
    "ee"                # 55         out  dx, al
    "ebf8"              # 56         jmp  next
    "66ba0206"          # 58 listen: mov  dx, 0x602
    "66ed"              # 5c         in   ax, dx
    "80cc01"            # 5e         or   ah, 1            PWRBTN_EN
    "66ef"              # 61         out  dx, ax
    "fbf4"              # 63 wait:   sti; hlt              until the next tick
    "66ba0006"          # 65         mov  dx, 0x600
    "66ed"              # 69         in   ax, dx
    "f6c401"            # 6b         test ah, 1            PWRBTN_STS
    "74f3"              # 6e         jz   wait
    "66ba0406"          # 70         mov  dx, 0x604
    "66b80020"          # 74         mov  ax, 0x2000       SLP_EN with type 0: soft off
    "66ef"              # 78         out  dx, ax
    "ebe7"              # 7a         jmp  wait
)
GUID_AT, NAME_AT, BANNER_AT, CODE_BYTES = 0x80, 0x90, 0x100, 0x200
GUID = bytes.fromhex("5a17c0de" "1111" "2222" "3333" "444455556666")
SECTION_AT = 0x1000  # in memory; the headers are one sector of the file


def variable(version):
    """The bytes by which a variable of this version is found in an NVRAM file."""
    return f"Vr-{version}".encode("utf-16-le") + b"\0\0"


def program(version):
    code = bytearray(CODE_BYTES)
    for at, part in ((0, CODE), (GUID_AT, GUID), (NAME_AT, variable(version)),
                     (BANNER_AT, cheap_guest.banner(version).encode())):
        code[at : at + len(part)] = part
    return bytes(code)


def efi_file(version):
    """A PE32+ file of one section (Microsoft's PE format; subsystem 10 is an EFI application)."""
    headers = bytearray(512)
    headers[0:2] = b"MZ"
    struct.pack_into("<I", headers, 0x3C, 0x40)
    struct.pack_into("<4sHHIIIHH", headers, 0x40, b"PE\0\0", 0x8664, 1, 0, 0, 0, 240, 0x0022)
    struct.pack_into("<HBBIIIII", headers, 0x58, 0x20B, 0, 0, CODE_BYTES, 0, 0, SECTION_AT, SECTION_AT)
    struct.pack_into("<QII", headers, 0x70, 0, SECTION_AT, 512)
    struct.pack_into("<IIIHH", headers, 0x90, 2 * SECTION_AT, 512, 0, 10, 0)
    struct.pack_into("<I", headers, 0xC4, 16)
    struct.pack_into("<8sIIIIIIHHI", headers, 0x148, b".text", CODE_BYTES, SECTION_AT, CODE_BYTES, 512, 0, 0, 0, 0,
                     0x60000020)
    return bytes(headers) + program(version)


def write_os_disk(path, version, disk_format="raw", size=4 * MIB):
    """Makes an OS disk of the version: an MBR and one EFI system partition."""
    raw = path if disk_format == "raw" else path + ".raw"
    sectors = (size - MIB) // 512
    entry = struct.pack("<B3sB3sII", 0, b"\xfe\xff\xff", 0xEF, b"\xfe\xff\xff", 2048, sectors)
    with open(raw, "wb") as disk:
        disk.write(bytes(446) + entry + bytes(48) + b"\x55\xaa")
        disk.truncate(size)
    esp = f"{raw}@@{MIB}"
    subprocess.run(["mformat", "-i", esp, "-T", str(sectors), "-h", "16", "-s", "63", "-H", "2048", "::"], check=True)
    subprocess.run(["mmd", "-i", esp, "::/EFI", "::/EFI/BOOT"], check=True)
    subprocess.run(["mcopy", "-i", esp, "-", "::/EFI/BOOT/BOOTX64.EFI"], input=efi_file(version), check=True)
    if disk_format != "raw":
        subprocess.run(["qemu-img", "convert", "-f", "raw", "-O", disk_format, raw, path], check=True)
        os.unlink(raw)
    return path


class Guest(cheap_guest.Guest):
    """As the BIOS one; its NVRAM lies beside its disks."""

    def __init__(self, fleet, name, index):
        super().__init__(fleet, name, index)
        self.nvram = fleet.path(f"{name}_VARS.fd")

    def make_files(self, version, **options):
        write_os_disk(self.os_disk, version, self.fleet.os_format, **options)
        for path, _, _ in self.data:
            cheap_guest.write_data_disk(path, seed=self.name.encode())

    def firmware(self):
        """What <os> has beside its type."""
        return self.fleet.firmware.replace("NVRAM", self.nvram)

    def xml(self, **changes):
        text = super().xml(**{"memory_mib": MEMORY_MIB, **changes})
        old = "<os><type arch='x86_64' machine='pc'>hvm</type>"
        assert old in text
        if "secure='yes'" in self.fleet.firmware:
            text = text.replace("<acpi/>", "<acpi/><smm state='on'/>")
        return text.replace(old, f"<os{self.fleet.os_attributes}><type arch='x86_64' machine='q35'>hvm</type>"
                                 + self.firmware())

    def wait_boot(self, version, timeout=120, boots=1):
        super().wait_boot(version, timeout, boots)

    def configured_nvram(self, flags):
        """The path in the XML, in either spelling; None when it names none."""
        nvram = self.os_element(flags).find("nvram")
        if nvram is None:
            return None
        source = nvram.find("source")
        return source.get("file") if source is not None else nvram.text


AS_TEXT = f"<loader readonly='yes' type='pflash'>{CODE_FILE}</loader><nvram template='{VARS_FILE}'>NVRAM</nvram>"
AS_SOURCE = (f"<loader readonly='yes' type='pflash'>{CODE_FILE}</loader>"
             f"<nvram type='file' template='{VARS_FILE}'><source file='NVRAM'/></nvram>")


class Fleet(cheap_guest.Fleet):
    """Guests that boot by UEFI.  firmware: what <os> has beside the type, NVRAM stands for the guest's own path."""

    guest_class = Guest

    def __init__(self, n, prefix, firmware=AS_TEXT, os_attributes="", **options):
        super().__init__(n, prefix, **options)
        self.firmware, self.os_attributes = firmware, os_attributes
