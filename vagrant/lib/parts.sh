# shellcheck shell=bash
# SPDX-License-Identifier: LGPL-2.1-or-later
#
# What the scripts that build guests share: Debian packages, a small initramfs, a BIOS disk. Nothing is mounted, and no kernel is
# installed here. The script that reads this has die(), MIB, and sizes in MiB: BOOT_START, BOOT_SIZE, ROOT_START, DISK_SIZE.

# ---- packages ---------------------------------------------------------------------------

kernel_package() {
    apt-cache depends linux-image-cloud-amd64 |
        sed -n 's/^ *Depends: \(linux-image-.*-cloud-amd64\)$/\1/p' | head -n 1
}

# Into DIR: the kernel and PACKAGE...
download_packages() {
    local dir=$1 kernel
    shift
    kernel=$(kernel_package)
    if [ -z "$kernel" ]; then
        apt-get -qq update
        kernel=$(kernel_package)
    fi
    [ -n "$kernel" ] || die "apt knows no linux-image-cloud-amd64; is this an amd64 Debian?"
    mkdir -p "$dir"
    (cd "$dir" && apt-get -qq -o APT::Sandbox::User=root download "$kernel" "$@") ||
        (apt-get -qq update && cd "$dir" &&
            apt-get -qq -o APT::Sandbox::User=root download "$kernel" "$@") ||
        die "cannot download the guest's packages: $kernel $*"
}

unpack_packages() {
    local deb
    mkdir -p "$2"
    for deb in "$1"/*.deb; do
        dpkg-deb -x "$deb" "$2"
    done
}

# ---- the initramfs ----------------------------------------------------------------------

# Prints the files of the modules NAME... and of all that they need, each after its needs.
module_order() {
    local tree=$1 version=$2
    shift 2
    python3 - "$tree/lib/modules/$version/modules.dep" "$@" <<'PYTHON'
import pathlib
import sys

needs = {}
for line in pathlib.Path(sys.argv[1]).read_text().splitlines():
    module, _, rest = line.partition(":")
    needs[module] = rest.split()
by_name = {pathlib.Path(m).stem.replace("-", "_"): m for m in needs}
order = []
for name in sys.argv[2:]:
    if name in by_name:                      # else it is built into the kernel
        for module in [*reversed(needs[by_name[name]]), by_name[name]]:
            if module not in order:
                order.append(module)
print("\n".join(order))
PYTHON
}

# make_initramfs UNPACKED INIT OUT MODULE...: busybox, the modules in /modules in the order of /modules/order, and INIT.
make_initramfs() {
    local unpacked=$1 init=$2 out=$3 version work module
    shift 3
    version=$(ls "$unpacked/lib/modules")
    work=$out.d
    mkdir -p "$work"/{bin,dev,proc,sys,root,modules}
    cp "$unpacked/bin/busybox" "$work/bin/"
    cp "$init" "$work/init"
    "$unpacked/bin/busybox" depmod -b "$unpacked" "$version"
    module_order "$unpacked" "$version" "$@" | while read -r module; do
        cp "$unpacked/lib/modules/$version/$module" "$work/modules/"
        basename "$module" >>"$work/modules/order"
    done
    (cd "$work" && find . | LC_ALL=C sort | cpio --quiet -o -H newc) >"$out"
    rm -rf "$work"
}

# ---- a disk that a BIOS boots -----------------------------------------------------------

# make_boot_partition FILE CACHE LABEL: CACHE/vmlinuz and CACHE/initrd, which finds its root by the label.
make_boot_partition() {
    local file=$1 cache=$2 label=$3
    mkfs.fat -C -F 16 -n LABBOOT -i 1ab00000 -h $((BOOT_START * MIB / 512)) \
        "$file" $((BOOT_SIZE * 1024)) >/dev/null
    syslinux --install "$file"
    mcopy -i "$file" "$cache/vmlinuz" "$cache/initrd" ::
    printf '%s\n' 'DEFAULT lab' 'PROMPT 0' 'LABEL lab' '  LINUX /vmlinuz' '  INITRD /initrd' \
        "  APPEND root=LABEL=$label $KERNEL_ARGUMENTS" | mcopy -i "$file" - ::/syslinux.cfg
}

# write_disk DISK CACHE TREE LABEL: a FAT boot partition, and an ext4 one, lab-root, with what is in TREE.
write_disk() {
    local disk=$1 cache=$2 tree=$3 label=$4
    truncate -s ${DISK_SIZE}M "$disk"
    sfdisk --quiet "$disk" <<PARTITIONS
label: dos
label-id: 0x1ab00001
${BOOT_START}MiB ${BOOT_SIZE}MiB c *
${ROOT_START}MiB - 83
PARTITIONS
    dd if=/usr/lib/syslinux/mbr/mbr.bin of="$disk" bs=440 count=1 conv=notrunc status=none
    make_boot_partition "$disk.boot" "$cache" "$label"
    dd if="$disk.boot" of="$disk" bs=1M seek=$BOOT_START conv=notrunc,sparse status=none
    mke2fs -q -F -t ext4 -L lab-root -m 0 -J size=4 -d "$tree" \
        -E "offset=$((ROOT_START * MIB)),root_owner=0:0" \
        "$disk" $((DISK_SIZE - ROOT_START))M
}
