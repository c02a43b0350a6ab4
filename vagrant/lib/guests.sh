# shellcheck shell=bash
# SPDX-License-Identifier: LGPL-2.1-or-later
#
# Part of vagrant/lab: the guests' images, and the guests.

# ---- images -----------------------------------------------------------------------------

make_image_parts() { "$HERE/guest-image" --cache "$CACHE" --parts; }

build_image() {
    mkdir -p "$LAB_DIR/images"
    "$HERE/guest-image" --cache "$CACHE" --kind "$2" "$1" "$LAB_DIR/images/$1.qcow2"
}

next_version() {
    local major
    major=$(find "$STORE/images/$IMAGE" -mindepth 1 -maxdepth 1 -printf '%f\n' |
        sed -n 's/^\([0-9]*\)\..*/\1/p' | sort -n | tail -n 1)
    echo "$((major + 1)).0.0"
}

is_published() { [ -e "$STORE/images/$IMAGE/$1/image.json" ]; }

publish_version() {
    local version=$1 kind=$2 file=$LAB_DIR/images/$1.qcow2
    ! is_published "$version" || return 0
    [ "$version" = "$FIRST_VERSION" ] || build_image "$version" "$kind"
    engine image-publish "$IMAGE" "$version" "$file"
}

# ---- guests -----------------------------------------------------------------------------

is_defined() { virsh dominfo "$1" >/dev/null 2>&1; }

is_ours() { [[ $(virsh -q domblklist "$1") == *" $LAB_DIR/guests/$1/"* ]]; }

require_no_stranger() {
    local name
    for name in $(guest_names); do
        ! is_defined "$name" || is_ours "$name" ||
            die "a domain $name exists that is not the lab's; undefine it ('vagrant destroy', if Vagrant made it), or set LAB_NAME and LAB_DIR"
    done
}

# An ext4 file system in a file that holds what is in a directory.
make_disk() {
    local file=$1 size=$2 label=$3 content=$4
    truncate -s "$size" "$file"
    mke2fs -q -F -t ext4 -L "$label" -d "$content" "$file"
    rm -r "$content"
}

make_guest_disks() {
    local dir=$1 content=$1/content
    rm -rf "$dir"
    mkdir -p "$dir"
    cp "$LAB_DIR/images/$FIRST_VERSION.qcow2" "$dir/os.qcow2"
    mkdir "$content"
    head -c 8M /dev/urandom >"$content/payload.bin"
    make_disk "$dir/data.raw" 64M lab-data "$content"
    mkdir "$content"
    cat /proc/sys/kernel/random/uuid >"$content/marker"
    make_disk "$dir/temp.raw" 16M lab-temp "$content"
    chmod 0711 "$LAB_DIR/guests" "$dir"
}

define_guest() {
    local name=$1 number=${1#"$LAB_NAME-"} type cpu=
    type=$(cat "$LAB_DIR/domain-type")
    [ "$type" != kvm ] || cpu="<cpu mode='host-passthrough'/>"
    sed -e "s|@NAME@|$name|; s|@TYPE@|$type|; s|@CPU@|$cpu|; s|@DIR@|$LAB_DIR/guests/$name|" \
        -e "s|@MAC@|$(printf '52:54:00:1a:b0:%02x' "$number")|; s|@MEMORY@|$MEMORY_MIB|" \
        -e "s|@DATA@|$DATA_SERIAL|; s|@TEMP@|$TEMP_SERIAL|" \
        "$HERE/guest.xml.in" >"$LAB_DIR/guests/$name/domain.xml"
    virsh -q define --validate "$LAB_DIR/guests/$name/domain.xml" >/dev/null
}

# A guest that is defined is complete, unless its files were removed by hand; any other one is
# made from the start.
make_guest() {
    if is_defined "$1"; then
        [ ! -e "$LAB_DIR/guests/$1/data.raw" ] || return 0
        remove_guest "$1"
    fi
    make_guest_disks "$LAB_DIR/guests/$1"
    define_guest "$1"
    say "made $1"
}

make_guests() {
    local name
    require_no_stranger
    [ -e "$LAB_DIR/images/$FIRST_VERSION.qcow2" ] || build_image "$FIRST_VERSION" good
    for name in $(guest_names); do make_guest "$name"; done
    for name in $(guest_names); do start_guest "$name"; done
}

start_guest() {
    [ "$(virsh domstate "$1")" = running ] || virsh -q start "$1" >/dev/null
}

wait_for_guests() {
    # shellcheck disable=SC2046
    python3 -B "$TOP/tests/lab/guest.py" wait $(guest_names) ||
        die "a guest does not come up; its console is $LAB_DIR/guests/NAME/console.log"
}

remove_guest() {
    is_ours "$1" || return 0
    virsh -q destroy "$1" >/dev/null 2>&1 || true
    virsh -q undefine "$1" --managed-save --snapshots-metadata --checkpoints-metadata >/dev/null
    say "removed $1"
}

remove_guests() {
    local name
    [ -e "$LAB_DIR/guests" ] || return 0
    for name in $(ls "$LAB_DIR/guests"); do
        ! is_defined "$name" || remove_guest "$name"
    done
    rm -rf "$LAB_DIR/guests"
}
