# shellcheck shell=bash
# SPDX-License-Identifier: LGPL-2.1-or-later
#
# Part of vagrant/lab: the demo: what a visitor is shown, and its proof.

# What an upgrade to a bad version must end with.
STOPPED_BY_POLICY=3
BREACH=MaxUnhealthyUpgradedInstancePercentExceededInRollingUpgrade

# Compares the guests with the note that was taken last, and takes the next one.
prove() {
    local version=$1 booted=$2
    # shellcheck disable=SC2046
    python3 -B "$TOP/tests/lab/proof.py" compare "$LAB_DIR/proof.json" \
        --version "$version" --booted "$booted" $(guest_names)
    take_note
}

take_note() {
    # shellcheck disable=SC2046
    python3 -B "$TOP/tests/lab/proof.py" note "$LAB_DIR/proof.json" $(guest_names)
}

demo_begin() {
    heading "A host with $LAB_GUESTS guests on version 1" \
        "Real guests: a boot loader, a kernel, a web server and a guest agent; each has an OS disk," \
        "a data disk with a random payload and a boot counter, and a temp disk."
    prepare_host
    remove_guests
    forget_set
    make_lab
    take_note
}

demo_upgrade() {
    heading "A new version is published" \
        "It is checked, copied into the store and hashed on the way; no guest notices."
    publish_version 2.0.0 good
    engine plan "$SET"

    heading "The set moves to 2.0.0, batch by batch" \
        "Each guest gets a fresh overlay as its OS disk; it is down only to stop, switch and boot."
    engine upgrade "$SET"

    heading "Proof, read from inside the guests and from libvirt" \
        "New system and new boot; the same machine, data and temp disk; the old OS disk is kept."
    prove 2.0.0 all
}

# The upgrade that must stop by policy: the exit code and the reason say so.
upgrade_to_bad_version() {
    local code=0
    engine upgrade "$SET" 2> >(tee "$LAB_DIR/run.log" >&2) || code=$?
    wait "$!" || true                       # for tee
    [ "$code" = "$STOPPED_BY_POLICY" ] || die "upgrade ended with $code, not $STOPPED_BY_POLICY"
    engine --json history "$SET" >>"$LAB_DIR/run.log"
    grep -q "$BREACH" "$LAB_DIR/run.log" || die "the run stopped, but not because of $BREACH"
    say "exit code $code, $BREACH"
}

demo_bad_version() {
    heading "A bad version is published, and tried" \
        "3.0.0 boots and then reports Unhealthy: the first batch is put back by itself and the run" \
        "stops. The other guests never notice: only one was booted anew."
    publish_version 3.0.0 unhealthy
    upgrade_to_bad_version
    prove 2.0.0 one
}

demo_rollback() {
    heading "The set is rolled back by hand" \
        "The kept OS disks are reactivated in place; nothing is copied."
    engine rollback "$SET" --all
    prove "$FIRST_VERSION" all
}

demo_end() {
    heading "What happened, and what it cost each guest"
    engine history "$SET"
    engine status "$SET"
    heading "Done" "The lab is still up: sudo ./vagrant/lab status" \
        "Remove it with: sudo ./vagrant/lab destroy"
}
