# shellcheck shell=bash
# SPDX-License-Identifier: LGPL-2.1-or-later
#
# Part of vagrant/lab: guests that `vagrant up` made: the box that they are made from, their set, and the way back.

BOX_DIR=$LAB_DIR/box

# ---- the box ----------------------------------------------------------------------------

# What `vagrant box add` reads: with it the box has a version, and Vagrant's copy in the storage pool its own name.
write_catalog() {
    local digest
    digest=$(sha256sum <"$1" | cut -d' ' -f1)
    cat <<CATALOG
{
  "name": "$BOX",
  "versions": [{
    "version": "$FIRST_VERSION",
    "providers": [{"name": "libvirt", "url": "file://$1", "checksum_type": "sha256", "checksum": "$digest"}]
  }]
}
CATALOG
}

# vagrant runs as a user, so all of it is for anybody to read.
build_box() {
    local image=$LAB_DIR/images/$FIRST_VERSION.qcow2
    [ -e "$image" ] || build_image "$FIRST_VERSION" good
    mkdir -p "$BOX_DIR"
    tar -C "$HERE/box" -cf "$BOX_DIR/lab.box.new" metadata.json Vagrantfile \
        -C "$LAB_DIR/images" --transform "s/^$FIRST_VERSION.qcow2\$/box.img/" "$FIRST_VERSION.qcow2"
    mv "$BOX_DIR/lab.box.new" "$BOX_DIR/lab.box"
    write_catalog "$BOX_DIR/lab.box" >"$BOX_DIR/lab.json"
    chmod 0755 "$BOX_DIR"
    chmod 0644 "$BOX_DIR"/lab.* "$LAB_DIR/domain-type"
}

# ---- the guests -------------------------------------------------------------------------

# As many as were asked for; else those that are there.
count_vagrant_guests() {
    local number=0
    if [ "$ASKED_GUESTS" = "" ]; then
        while is_defined "$LAB_NAME-$number"; do number=$((number + 1)); done
        LAB_GUESTS=$number
    fi
    [ "$LAB_GUESTS" -gt 0 ] || die "there is no domain $LAB_NAME-0; make the guests first: cd $HERE && vagrant up"
}

require_vagrant_guests() {
    local name
    for name in $(guest_names); do
        is_defined "$name" || die "there is no domain $name; make it: cd $HERE && vagrant up $name"
        ! is_ours "$name" || die "$name was made by 'lab up', which has a set of its guests already"
        [ "$(virsh domstate "$name")" = running ] || die "$name does not run; start it: cd $HERE && vagrant up $name"
    done
}

os_disk_of() { virsh -q domblklist "$1" | awk '$1 == "vda" { print $2 }'; }

# Prints the file that a disk lies on.
below() {
    qemu-img info -U --output=json "$1" |
        python3 -c 'import json, sys; print(json.load(sys.stdin).get("full-backing-filename", ""))'
}

# Prints name and version of each guest of the set, `-` where none is known.
instances() {
    engine --json status "$SET" | python3 -c 'import json, sys
for instance in json.load(sys.stdin)["instances"]:
    print(instance["domain"], instance["version"] or "-")'
}

has_set() { engine set-info "$SET" >/dev/null 2>&1; }

# The base that the disk of a guest of Vagrant's lies on is the very image of the version that it runs.
publish_base_of() {
    local name=$1 version=$2 base
    ! is_published "$version" || return 0
    base=$(below "$(os_disk_of "$name")")
    [ -n "$base" ] || die "the OS disk of $name lies on no base image: it is not of a box, or was swapped already"
    # shellcheck disable=SC2153   # of shared.conf
    engine image-publish "$IMAGE" "$version" "$base"
}

version_of() { python3 -B "$TOP/tests/lab/guest.py" version "$1"; }

adopt_vagrant_guests() {
    local name
    for name in $(instances | awk '$2 == "-" { print $1 }'); do
        engine adopt "$SET" "$name" --version "$(version_of "$name")"
    done
}

# ---- the commands -----------------------------------------------------------------------

lab_box() {
    install_packages
    make_image_parts
    decide_domain_type
    build_box
    say "built $BOX_DIR/lab.box; go on with: cd $HERE && vagrant up && sudo ./lab adopt"
}

lab_adopt() {
    local name
    install_packages
    build_engine
    start_libvirt
    count_vagrant_guests
    require_vagrant_guests
    say "waiting for the guests' agents"
    wait_for_guests
    make_store
    for name in $(guest_names); do publish_base_of "$name" "$(version_of "$name")"; done
    define_set
    adopt_vagrant_guests
    say "the set is made; see it with: sudo ./vagrant/lab status"
}

# The swap to generation 0 is one like any other: the guest must be healthy on it, or it goes back.
give_back() {
    local name
    [ $# -gt 0 ] || return 0
    for name in "$@"; do
        ! is_ours "$name" || die "$name was made by 'lab up'; there is no Vagrant to give it back to"
    done
    engine rollback "$SET" "$@" --to-generation 0
    for name in "$@"; do engine release "$SET" "$name"; done
}

# Guests of the set that are no more, as after a `vagrant destroy`, do not hold the others up.
lab_release() {
    local name names=()
    [ -e "$LAB_DIR/lab.yaml" ] || die "there is no set in $LAB_DIR, so every guest is Vagrant's as it is"
    build_engine
    start_libvirt
    if [ $# -gt 0 ]; then
        give_back "$@"
    else
        for name in $(instances | cut -d' ' -f1); do ! is_defined "$name" || names+=("$name"); done
        give_back "${names[@]}"
        ! has_set || engine set-undefine "$SET"
    fi
    has_set || rm "$LAB_DIR/lab.yaml"
}
