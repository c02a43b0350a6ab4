# shellcheck shell=bash
# SPDX-License-Identifier: LGPL-2.1-or-later
#
# Part of vagrant/lab: packages, the build, libvirtd, KVM.

# One lab command at a time. Whatever stays in the background must not inherit fd 9.
take_lab() {
    if [ -e "$LAB_DIR" ] && [ ! -e "$LAB_DIR/lock" ] && [ -n "$(ls -A "$LAB_DIR")" ]; then
        die "$LAB_DIR is not empty and not a lab; name another directory with LAB_DIR"
    fi
    mkdir -p "$LAB_DIR"
    chmod 0711 "$LAB_DIR"
    exec 9>"$LAB_DIR/lock"
    flock -n 9 || die "another lab command is running in $LAB_DIR"
}

install_packages() { "$TOP/packaging/deps" build lab; }

build_engine() {
    if [ -n "$VIRT_REIMAGE" ]; then
        command -v "$VIRT_REIMAGE" >/dev/null || die "VIRT_REIMAGE is '$VIRT_REIMAGE', no program"
        return
    fi
    local log=$LAB_DIR/build.log
    say "building virt-reimage"
    (cd "$TOP" && cmake --preset release && cmake --build --preset release) >"$log" 2>&1 ||
        { tail -n 20 "$log" >&2 && die "the build failed; all of it is in $log"; }
    VIRT_REIMAGE=$TOP/build/release/virt-reimage
}

# The program without building it, for commands that only look.
find_engine() {
    VIRT_REIMAGE=${VIRT_REIMAGE:-$TOP/build/release/virt-reimage}
    command -v "$VIRT_REIMAGE" >/dev/null
}

libvirt_answers() { timeout 10 virsh version >/dev/null 2>&1; }

is_process() { [ "$(cat "/proc/$2/comm" 2>/dev/null)" = "$1" ]; }

runs_here() { is_process "$1" "$(cat "/run/$1.pid" 2>/dev/null)"; }

# The daemons, and the guests that they start, live under a sub-reaper of our own.
start_libvirt_without_init() {
    local daemon daemons=libvirtd
    runs_here virtlogd || daemons="virtlogd libvirtd"
    for daemon in $daemons; do
        setsid "$HERE/subreaper" "$daemon" -d </dev/null >>"$LAB_DIR/libvirtd.log" 2>&1 9>&- &
    done
    for _ in $(seq 100); do
        ! libvirt_answers || break
        sleep 0.2
    done
    libvirt_answers || die "libvirtd does not start; see $LAB_DIR/libvirtd.log"
    for daemon in $daemons; do
        echo "$daemon $(cat "/run/$daemon.pid")" >>"$LAB_DIR/daemons"
        say "started $daemon"
    done
}

# Where no udev did it. With a /dev/kvm that only root can open, libvirt finds its knowledge of
# QEMU outdated each time and asks QEMU anew: 10 s at every define, and that while a guest is off.
give_kvm_to_its_group() {
    [ -c /dev/kvm ] && [ ! -d /run/udev ] && [ "$(stat -c %G /dev/kvm)" != kvm ] || return 0
    chgrp kvm /dev/kvm
    chmod 0660 /dev/kvm
    say "gave /dev/kvm to the group kvm, as udev does"
}

start_libvirt() {
    give_kvm_to_its_group
    ! libvirt_answers || return 0
    if [ -d /run/systemd/system ]; then
        systemctl start libvirtd.socket || true
        libvirt_answers || die "libvirtd does not answer; try: systemctl status libvirtd"
    else
        start_libvirt_without_init
    fi
}

# Stops what start_libvirt started, unless someone else's guests run there by now.
stop_libvirt() {
    [ -e "$LAB_DIR/daemons" ] || return 0
    if libvirt_answers && [ -n "$(virsh -q list --name)" ]; then
        say "libvirtd is left running: other guests use it"
        return
    fi
    local daemon pid
    tac "$LAB_DIR/daemons" | while read -r daemon pid; do
        is_process "$daemon" "$pid" || continue
        kill "$pid"
        for _ in $(seq 50); do
            is_process "$daemon" "$pid" || break
            sleep 0.1
        done
        say "stopped $daemon"
    done
}

# The kernel switches the machine off by itself when it finds lab.probe on its command line.
boot_with_kvm() {
    timeout -k 1 10 qemu-system-x86_64 -accel kvm -cpu host -m 256 -nodefaults -display none \
        -no-reboot -kernel "$CACHE/vmlinuz" -initrd "$CACHE/initrd" \
        -append 'console=ttyS0 quiet lab.probe' -serial "file:$1"
}

kvm_boots_a_guest() {
    local console=$LAB_DIR/kvm-console.log
    [ -e /dev/kvm ] || return
    (boot_with_kvm "$console" || true) >"$LAB_DIR/kvm.log" 2>&1 </dev/null
    grep -q 'initramfs reached' "$console"
}

# /dev/kvm may exist and yet not run a guest: boot one, with a deadline, and remember.
decide_domain_type() {
    local type=qemu
    if [ ! -s "$LAB_DIR/domain-type" ]; then
        ! kvm_boots_a_guest || type=kvm
        echo "$type" >"$LAB_DIR/domain-type"
    fi
    if [ "$(cat "$LAB_DIR/domain-type")" = kvm ]; then
        say "KVM: it booted a guest, so the guests use it"
    elif [ -e /dev/kvm ]; then
        say "KVM: /dev/kvm is there, but a guest does not boot with it; the guests use TCG"
    else
        say "KVM: there is no /dev/kvm; the guests use TCG"
    fi
}
