/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * The same calls on libvirt with QEMU and on the scripted hypervisor: what each returns, how states, reasons and XML are after it, and
 * what has happened must be equal, but for the differences that both_text.c names. So what the sweeps show on the scripted one holds on
 * libvirt. Row B17.
 */
#include "hv/both.h"

#include "base/child.h"
#include "fault/sweep_hv.h"
#include "hv/domain_xml.h"
#include <sys/stat.h>
#include <unistd.h>

static PrivateLibvirtd *private_libvirtd;
static gboolean skipped;
static const char *uuid_0, *uuid_1;

/* --- domains ----------------------------------------------------------------------------------------- */

static char *disk_path(const Side *side, const char *name)
{
    return g_build_filename(side->dir, "disks", name, NULL);
}

static char *raw_disk(const Side *side, const char *name)
{
    return g_strdup_printf(
        "<disk type='file' device='disk'><driver name='qemu' type='raw' cache='none'/><source file='%s/disks/%s'/>",
        side->dir, name);
}

/* With the chain as a swap writes it. */
static char *overlay_disk(const Side *side, const char *name, const char *base)
{
    return g_strdup_printf(
        "<disk type='file' device='disk'><driver name='qemu' type='qcow2'/><source file='%s/disks/%s'/>"
        "<backingStore type='file'><format type='raw'/><source file='%s/disks/%s'>"
        "<seclabel model='dac' relabel='no'/><seclabel model='selinux' relabel='no'/></source>"
        "<backingStore/></backingStore>",
        side->dir, name, side->dir, base);
}

/* Takes os_disk, the beginning of the <disk> element of vda. */
static char *domain(const Side *side, guint guest, char *os_disk, const char *os, const char *memory)
{
    char *xml = g_strdup_printf(
        "<domain type='qemu' xmlns:qemu='http://libvirt.org/schemas/domain/qemu/1.0'><name>%s</name><uuid>%s</uuid>"
        "<memory unit='KiB'>%s</memory><currentMemory unit='KiB'>%s</currentMemory>"
        "<vcpu placement='static'>1</vcpu>%s<features><acpi/></features><clock "
        "offset='utc'/><on_poweroff>destroy</on_poweroff>"
        "<on_reboot>restart</on_reboot><on_crash>destroy</on_crash><devices>"
        "%s<target dev='vda' bus='virtio'/><serial>OS01</serial></disk>"
        "<disk type='file' device='disk'><driver name='qemu' type='raw'/><source file='%s/disks/data%u.raw'/>"
        "<target dev='vdb' bus='virtio'/><serial>DATA01</serial></disk>"
        "<interface type='user'><mac address='52:54:00:00:00:%02u'/><model type='virtio'/></interface>"
        "<serial type='file'><source path='%s/console%u.log' append='on'/></serial>"
        "<channel type='unix'><target type='virtio' name='org.qemu.guest_agent.0'/></channel>"
        "<controller type='usb' model='none'/><memballoon model='none'/></devices>"
        /* It starts three times as fast when libvirt does not ask QEMU for each feature of its CPU. */
        "<qemu:capabilities><qemu:del capability='cpu-unavailable-features'/></qemu:capabilities></domain>",
        sweep_guest_name(guest), sweep_guest_uuid(guest), memory, memory, os, os_disk, side->dir, guest, guest,
        side->dir, guest);

    g_free(os_disk);
    return xml;
}

#define BIOS "<os><type arch='x86_64' machine='pc'>hvm</type><boot dev='hd'/></os>"

static char *plain(const Side *side, guint guest, const char *os_disk)
{
    return domain(side, guest, raw_disk(side, os_disk), BIOS, "16384");
}

static void define_plain(Side *side, guint guest, const char *os_disk)
{
    g_autofree char *xml = plain(side, guest, os_disk);

    define(side, "define", sweep_guest_uuid(guest), xml);
}

/* --- the scripts ------------------------------------------------------------------------------------- */

static void no_domain(Side *side)
{
    list(side, "list of none");
    look_up(side, "look up a name that is not there", "web-0");
    look_up(side, "look up an UUID that is not there", uuid_0);
    look(side, "state of none", uuid_0);
    inactive(side, "inactive XML of none", uuid_0);
    live(side, "live XML of none", uuid_0);
    kept(side, "kept XML of none", uuid_0);
    start(side, "start of none", uuid_0);
    shutdown_by(side, "ACPI to none", uuid_0, VR_SHUTDOWN_ACPI);
    shutdown_by(side, "agent shutdown of none", uuid_0, VR_SHUTDOWN_AGENT);
    destroy(side, "destroy of none", uuid_0);
    agent(side, "agent of none", uuid_0);
    leases(side, "leases of none", uuid_0);
    nvram(side, "NVRAM of none", uuid_0);
}

static void definitions(Side *side)
{
    g_autofree char *xml = plain(side, 0, "os0.raw");
    g_autofree char *more = replaced(xml, "16384", "32768");
    g_autofree char *nonsense = replaced(xml, "<serial>OS01</serial>", "<serial>OS01</serial><nonsense/>");
    g_autofree char *renamed = replaced(xml, "<name>web-0", "<name>web-9");
    g_autofree char *second = plain(side, 1, "os1.raw");
    g_autofree char *taken = replaced(second, "<name>web-1", "<name>web-0");

    define(side, "define what is no XML", uuid_0, "<domain");
    define(side, "define the XML of another", uuid_1, xml);
    define(side, "define, as the first, what the schema refuses", uuid_0, nonsense);
    list(side, "list after refusals");
    define(side, "define", uuid_0, xml);
    list(side, "list");
    look_up(side, "look up its name", "web-0");
    look_up(side, "look up its UUID", uuid_0);
    look_up(side, "look up another's", "web-1");
    look_up(side, "look up no name", "");
    look(side, "state", uuid_0);
    inactive(side, "inactive XML", uuid_0);
    live(side, "live XML of one that is off", uuid_0);
    define(side, "define what the schema refuses", uuid_0, nonsense);
    define(side, "define under another name", uuid_0, renamed);
    define(side, "define another under its name", uuid_1, taken);
    inactive(side, "inactive XML after refusals", uuid_0);
    define(side, "define again", uuid_0, more);
    inactive(side, "inactive XML after it", uuid_0);
    define(side, "define a second one", uuid_1, second);
    list(side, "list of both");
    outside(side, 0, AUTOSTART);
    define(side, "define one that starts by itself", uuid_0, xml);
    look(side, "it still does", uuid_0);
    events(side, "events", 0);
    events(side, "events of the second", 1);
}

/* What a swap does, there and back. */
static void swap(Side *side)
{
    g_autofree char *old = plain(side, 0, "os0.raw");
    g_autofree char *new = domain(side, 0, overlay_disk(side, "new.qcow2", "base.raw"), BIOS, "16384");
    g_autofree char *told =
        replaced(new, "<memory unit",
                 "<metadata><vr:instance xmlns:vr='urn:virt-reimage:instance:1' set='shop' generation='1' "
                 "swap='s'/></metadata><memory unit");

    define(side, "define", uuid_0, old);
    shutdown_by(side, "ACPI to one that is off", uuid_0, VR_SHUTDOWN_ACPI);
    shutdown_by(side, "agent shutdown of one that is off", uuid_0, VR_SHUTDOWN_AGENT);
    destroy(side, "destroy one that is off", uuid_0);
    agent(side, "agent of one that is off", uuid_0);
    leases(side, "leases of one that is off", uuid_0);
    events(side, "events of refusals", 0);
    start(side, "start", uuid_0);
    look(side, "running", uuid_0);
    live(side, "live XML", uuid_0);
    start(side, "start what runs", uuid_0);
    look(side, "still running", uuid_0);
    define(side, "define while it runs", uuid_0, told);
    live(side, "live XML is the old one", uuid_0);
    inactive(side, "inactive XML is the new one", uuid_0);
    outside(side, 0, BOOTED);
    agent(side, "agent that is not there", uuid_0);
    leases(side, "no leases", uuid_0);
    kept(side, "nothing kept", uuid_0);
    shutdown_by(side, "agent shutdown", uuid_0, VR_SHUTDOWN_AGENT);
    look(side, "still running", uuid_0);
    shutdown_by(side, "ACPI", uuid_0, VR_SHUTDOWN_ACPI);
    await(side, "off", uuid_0, VR_DOMAIN_OFF);
    look(side, "shut down", uuid_0);
    live(side, "no live XML", uuid_0);
    inactive(side, "inactive XML stays", uuid_0);
    start(side, "start on the new disk", uuid_0);
    look(side, "a new QEMU", uuid_0);
    live(side, "live XML is the new one", uuid_0);
    destroy(side, "destroy", uuid_0);
    look(side, "destroyed", uuid_0);
    define(side, "define the old one", uuid_0, old);
    look(side, "a define does not change the state", uuid_0);
    inactive(side, "inactive XML is the old one", uuid_0);
    start(side, "start on the old disk", uuid_0);
    look(side, "a third QEMU", uuid_0);
    live(side, "live XML is the old one again", uuid_0);
    events(side, "events", 0);
}

static void guests(Side *side)
{
    static const char *const deaf[] = {"deaf.raw", "reboots.raw"};

    for (guint i = 0; i < G_N_ELEMENTS(deaf); i++) {
        define_plain(side, 0, deaf[i]);
        outside(side, 0, DEAF);
        start(side, "start one that does not stop", uuid_0);
        look(side, "it runs", uuid_0);
        outside(side, 0, BOOTED);
        shutdown_by(side, "ACPI to it", uuid_0, VR_SHUTDOWN_ACPI);
        g_usleep(1000 * 1000);
        look(side, "it runs on", uuid_0);
        destroy(side, "destroy it", uuid_0);
        look(side, "destroyed", uuid_0);
    }
    define_plain(side, 0, "ends.raw");
    outside(side, 0, ENDS);
    start(side, "start one that ends by itself", uuid_0);
    await(side, "off", uuid_0, VR_DOMAIN_OFF);
    look(side, "ended", uuid_0);
    define_plain(side, 0, "os0.raw");
    outside(side, 0, WELL);
    start(side, "start", uuid_0);
    outside(side, 0, CRASH);
    await(side, "QEMU is gone", uuid_0, VR_DOMAIN_OFF);
    look(side, "crashed", uuid_0);
    start(side, "start again", uuid_0);
    outside(side, 0, BOOTED);
    outside(side, 0, SUSPEND);
    look(side, "paused", uuid_0);
    start(side, "start what is paused", uuid_0);
    shutdown_by(side, "ACPI to what is paused", uuid_0, VR_SHUTDOWN_ACPI);
    live(side, "live XML of what is paused", uuid_0);
    agent(side, "agent of what is paused", uuid_0);
    look(side, "still paused", uuid_0);
    destroy(side, "destroy what is paused", uuid_0);
    look(side, "destroyed", uuid_0);
    events(side, "events", 0);
}

/* QEMU does not start: whose bits are wrong, or which file, is a different matter each time. */
static void no_start(Side *side, const char *why, char *os_disk)
{
    g_autofree char *xml = domain(side, 0, os_disk, BIOS, "16384");

    say(side, "now", why);
    define(side, "define", uuid_0, xml);
    start(side, "start", uuid_0);
    look(side, "why it is off", uuid_0);
    live(side, "no live XML", uuid_0);
}

static void bad_disks(Side *side)
{
    g_autofree char *sealed = disk_path(side, "sealed.raw");
    g_autofree char *base = disk_path(side, "base.raw");
    g_autofree char *bytes = g_malloc0(1024 * 1024);

    assert_true(g_file_set_contents_full(sealed, bytes, 1024 * 1024, G_FILE_SET_CONTENTS_NONE, 0400, NULL));
    no_start(side, "no such disk", raw_disk(side, "absent.raw"));
    no_start(side, "a sealed disk", raw_disk(side, "sealed.raw"));
    no_start(side, "a raw disk named qcow2", overlay_disk(side, "os1.raw", "base.raw"));
    no_start(side, "no such base", overlay_disk(side, "new.qcow2", "absent.raw"));
    assert_int_equal(chmod(base, 0400), 0);
    no_start(side, "a base that others may not read", overlay_disk(side, "new.qcow2", "base.raw"));
    assert_int_equal(chmod(base, 0444), 0);
    define_plain(side, 1, "os1.raw");
    start(side, "start the second", uuid_1);
    no_start(side, "the disk of another that runs", raw_disk(side, "os1.raw"));
    define_plain(side, 0, "os0.raw");
    start(side, "start on a good disk after all", uuid_0);
    look(side, "it runs", uuid_0);
    events(side, "events", 0);
}

static void saves_and_snapshots(Side *side)
{
    define_plain(side, 0, "os0.raw");
    start(side, "start", uuid_0);
    outside(side, 0, BOOTED);
    outside(side, 0, SAVE);
    look(side, "saved", uuid_0);
    kept(side, "the save is kept", uuid_0);
    start(side, "start what is saved", uuid_0);
    define_plain(side, 0, "os1.raw");
    kept(side, "it is that of the first disk", uuid_0);
    look(side, "still saved", uuid_0);
    outside(side, 0, DROP_SAVE);
    look(side, "the save is gone", uuid_0);
    kept(side, "and not kept", uuid_0);
    outside(side, 0, SNAPSHOT);
    look(side, "a snapshot", uuid_0);
    kept(side, "it is kept", uuid_0);
    define_plain(side, 0, "os0.raw");
    kept(side, "it names the disk that it was made of", uuid_0);
    start(side, "start with a snapshot", uuid_0);
    outside(side, 0, COPY);
    look(side, "a block job", uuid_0);
    define_plain(side, 0, "os1.raw");
    destroy(side, "destroy with a block job", uuid_0);
    inactive(side, "defined with a block job", uuid_0);
    events(side, "events", 0);
}

static void undefined(Side *side)
{
    define_plain(side, 0, "os0.raw");
    outside(side, 0, UNDEFINE);
    look(side, "gone", uuid_0);
    define_plain(side, 0, "os0.raw");
    start(side, "start", uuid_0);
    outside(side, 0, UNDEFINE);
    look(side, "transient", uuid_0);
    list(side, "list");
    live(side, "live XML", uuid_0);
    inactive(side, "inactive XML of a transient one", uuid_0);
    define_plain(side, 0, "os1.raw");
    look(side, "persistent again", uuid_0);
    live(side, "live XML stays", uuid_0);
    outside(side, 0, UNDEFINE);
    destroy(side, "destroy what is transient", uuid_0);
    look(side, "gone for good", uuid_0);
    list(side, "nothing is left");
    start(side, "start what is gone", uuid_0);
    events(side, "events", 0);
}

#define UEFI(nvram)                                                                                                    \
    "<os><type arch='x86_64' machine='pc'>hvm</type><loader readonly='yes' "                                           \
    "type='pflash'>/usr/share/OVMF/OVMF_CODE_4M.fd</loader>"                                                           \
    "<nvram template='/usr/share/OVMF/OVMF_VARS_4M.fd'>" nvram "</nvram><boot dev='hd'/></os>"

static void define_uefi(Side *side, const char *step, const char *os)
{
    g_autofree char *xml = domain(side, 0, raw_disk(side, "os0.raw"), os, "131072");

    define(side, step, uuid_0, xml);
}

/* What is told of a domain that is off is what it then runs on. */
static void chosen_nvram(Side *side, const char *step, const char *uuid)
{
    g_autofree char *told = vr_hv_nvram(side->hv, uuid, NULL, NULL);
    g_autofree char *xml = vr_hv_live_xml(side->hv, uuid, NULL);
    g_autoptr(VrDomainDef) def = xml ? vr_domain_def_parse(xml, NULL) : NULL;

    say(side, step, def && told && g_strcmp0(def->nvram, told) == 0 ? "as told" : "another");
}

static void firmware(Side *side)
{
    g_autofree char *named = g_strdup_printf(UEFI("%s/disks/vars.fd"), side->dir);
    g_autofree char *vars = disk_path(side, "vars.fd");

    define_plain(side, 0, "os0.raw");
    nvram(side, "NVRAM of a BIOS guest", uuid_0);
    define_uefi(side, "define with NVRAM that is named", named);
    nvram(side, "NVRAM that is named", uuid_0);
    start(side, "start makes it", uuid_0);
    say(side, "it is there", g_file_test(vars, G_FILE_TEST_EXISTS) ? "yes" : "no");
    live(side, "live XML", uuid_0);
    destroy(side, "destroy", uuid_0);
    say(side, "it stays", g_file_test(vars, G_FILE_TEST_EXISTS) ? "yes" : "no");
    assert_int_equal(chmod(vars, 0400), 0);
    start(side, "start on sealed NVRAM", uuid_0);
    look(side, "why it is off", uuid_0);
    assert_int_equal(chmod(vars, 0600), 0);
    start(side, "start on it unsealed", uuid_0);
    destroy(side, "destroy", uuid_0);
    define_uefi(side, "define without naming one",
                "<os firmware='efi'><type arch='x86_64' machine='pc'>hvm</type><firmware><feature enabled='no' "
                "name='secure-boot'/>"
                "</firmware><boot dev='hd'/></os>");
    nvram(side, "NVRAM that is not named", uuid_0);
    inactive(side, "inactive XML", uuid_0);
    start(side, "start", uuid_0);
    look(side, "it runs", uuid_0);
    live(side, "live XML", uuid_0);
    chosen_nvram(side, "NVRAM of what runs", uuid_0);
    destroy(side, "destroy", uuid_0);
}

static void volumes(Side *side)
{
    volume(side, "a volume", "guests", "os0.raw");
    volume(side, "one that is not there", "guests", "absent.raw");
    volume(side, "a pool that is not there", "absent", "os0.raw");
}

/* A wait ends when something has happened, also when that was before it and after the look. */
static void wait(Side *side, const char *step, const char *uuid)
{
    gint64 begin = vr_clock_now_ms();

    vr_hv_wait_change(side->hv, uuid, begin + 20000);
    say(side, step, vr_clock_now_ms() < begin + 10000 ? "in time" : "at the deadline");
}

static void waiting(Side *side)
{
    define_plain(side, 0, "os0.raw");
    look(side, "off", uuid_0);
    start(side, "start", uuid_0);
    wait(side, "a wait after it", uuid_0);
    look(side, "running", uuid_0);
    outside(side, 0, BOOTED);
    shutdown_by(side, "ACPI", uuid_0, VR_SHUTDOWN_ACPI);
    wait(side, "a wait for the end", uuid_0);
    await(side, "off", uuid_0, VR_DOMAIN_OFF);
    look(side, "off again", uuid_0);
}

static void lost_daemon(Side *side)
{
    g_autofree char *new = plain(side, 0, "os1.raw");

    define_plain(side, 0, "os0.raw");
    define_plain(side, 1, "deaf.raw");
    outside(side, 1, DEAF);
    start(side, "start the first", uuid_0);
    start(side, "start the second", uuid_1);
    destroy(side, "destroy the first", uuid_0);
    look(side, "destroyed", uuid_0);
    look(side, "running", uuid_1);
    side->ops->daemon(side, KILL_DAEMON);
    await(side, "libvirt answers", uuid_1, VR_DOMAIN_RUNNING);
    look(side, "off, and nobody knows why", uuid_0);
    look(side, "it ran on", uuid_1);
    live(side, "live XML", uuid_1);
    inactive(side, "inactive XML", uuid_0);
    lost(side, "lost so far");
    define(side, "define", uuid_0, new);
    start(side, "start", uuid_0);
    look(side, "a new QEMU", uuid_0);
    destroy(side, "destroy the one that ran on", uuid_1);
    look(side, "destroyed", uuid_1);
}

/* Of a call that was given up nobody knows; it takes effect when the daemon goes on. */
static void hung_daemon(Side *side)
{
    g_autofree char *new = plain(side, 0, "os1.raw");

    define_plain(side, 0, "os0.raw");
    side->ops->daemon(side, HURRY);
    side->ops->daemon(side, STOP_DAEMON);
    define(side, "define on a daemon that hangs", uuid_0, new);
    side->ops->daemon(side, CONTINUE_DAEMON);
    await(side, "it goes on", uuid_0, VR_DOMAIN_OFF);
    await_disk(side, "it is defined", uuid_0, "os1.raw");
    inactive(side, "and so it is", uuid_0);
    lost(side, "lost one");
    side->ops->daemon(side, STOP_DAEMON);
    start(side, "start on a daemon that hangs", uuid_0);
    side->ops->daemon(side, CONTINUE_DAEMON);
    await(side, "it runs", uuid_0, VR_DOMAIN_RUNNING);
    lost(side, "lost two");
    side->ops->daemon(side, STOP_DAEMON);
    inactive(side, "a question to a daemon that hangs", uuid_0);
    side->ops->daemon(side, CONTINUE_DAEMON);
    await(side, "it runs still", uuid_0, VR_DOMAIN_RUNNING);
    lost(side, "a question is not counted");
    side->ops->daemon(side, STOP_DAEMON);
    destroy(side, "destroy on a daemon that hangs", uuid_0);
    side->ops->daemon(side, CONTINUE_DAEMON);
    await(side, "it is off", uuid_0, VR_DOMAIN_OFF);
    look(side, "destroyed", uuid_0);
}

/* --- running both ------------------------------------------------------------------------------------ */

static void make_os_disk(const char *dir, const char *name, const char *kind)
{
    g_autofree char *script = g_build_filename(g_getenv("VR_SOURCE_DIR"), "tests", "lib", "cheap_guest.py", NULL);
    g_autofree char *path = g_build_filename(dir, "disks", name, NULL);
    const char *argv[] = {"/usr/bin/python3", script, path, "1", "raw", kind, NULL};

    assert_true(vr_child_run(argv, NULL, NULL, NULL));
}

static char *make_dir(const char *top, const char *name)
{
    static const char *const disks[][2] = {
        {"os0.raw"},          {"os1.raw"},   {"base.raw"}, {"deaf.raw", "deaf"}, {"reboots.raw", "reboots"},
        {"ends.raw", "ends"}, {"data0.raw"}, {"data1.raw"}};
    char *dir = g_build_filename(top, name, NULL);
    g_autofree char *inner = g_build_filename(dir, "disks", NULL);
    g_autofree char *base = g_build_filename(inner, "base.raw", NULL);
    g_autofree char *overlay = g_build_filename(inner, "new.qcow2", NULL);
    const char *const create[] = {"qemu-img", "create", "-q", "-f", "qcow2", "-F", "raw", "-b", base, overlay, NULL};

    assert_int_equal(g_mkdir_with_parents(inner, 0711), 0);
    for (guint i = 0; i < G_N_ELEMENTS(disks); i++)
        make_os_disk(dir, disks[i][0], disks[i][1]);
    assert_int_equal(chmod(base, 0444), 0);
    assert_true(vr_child_run(create, NULL, NULL, NULL));
    return dir;
}

static GPtrArray *run_on(Side *side, void (*script)(Side *side))
{
    GPtrArray *steps = g_ptr_array_new_with_free_func(step_free);

    side->steps = steps;
    for (guint i = 0; i < GUESTS; i++)
        side->ids[i] = -1;
    script(side);
    side->ops->close(side);
    return steps;
}

/* The lines of a that are not in b. */
static void print_missing(const char *who, const char *a, const char *b)
{
    g_auto(GStrv) of_a = g_strsplit(a, "\n", -1);
    g_auto(GStrv) of_b = g_strsplit(b, "\n", -1);

    for (guint i = 0; of_a[i]; i++)
        if (!g_strv_contains((const char *const *)of_b, of_a[i]))
            print_message("    only %-9s %s\n", who, g_strstrip(of_a[i]));
}

static guint differences(const GPtrArray *real, const GPtrArray *scripted)
{
    guint n = 0;

    assert_int_equal(real->len, scripted->len);
    for (guint i = 0; i < real->len; i++) {
        const Step *a = real->pdata[i], *b = scripted->pdata[i];
        assert_string_equal(a->step, b->step);
        if (g_str_equal(a->said, b->said))
            continue;
        n++;
        print_message("%u. %s:\n", i + 1, a->step);
        print_missing("libvirt", a->said, b->said);
        print_missing("scripted", b->said, a->said);
    }
    return n;
}

typedef struct {
    const char *name;
    void (*run)(Side *side);
} Script;

static const Script scripts[] = {
    {"no domain", no_domain}, {"definitions", definitions}, {"swap", swap},
    {"guests", guests},       {"bad disks", bad_disks},     {"saves and snapshots", saves_and_snapshots},
    {"undefined", undefined}, {"firmware", firmware},       {"volumes", volumes},
    {"waiting", waiting},     {"lost daemon", lost_daemon}, {"hung daemon", hung_daemon},
};

static void run_both(void **state)
{
    g_autofree char *top = g_strdup("/var/lib/virt-reimage-test-XXXXXX");
    const char *const rm[] = {"rm", "-rf", "--one-file-system", top, NULL};
    const Script *script = *state;
    guint n;

    if (!private_libvirtd)
        skip();
    assert_non_null(g_mkdtemp(top));
    assert_int_equal(chmod(top, 0711), 0);
    g_autofree char *real_dir = make_dir(top, "real");
    g_autofree char *scripted_dir = make_dir(top, "scripted");
    g_autoptr(GPtrArray) real = run_on(both_real(private_libvirtd, real_dir), script->run);
    g_autoptr(GPtrArray) scripted = run_on(both_scripted(scripted_dir), script->run);
    n = differences(real, scripted);
    vr_child_run(rm, NULL, NULL, NULL);
    print_message("%u steps, %u differences\n", real->len, n);
    assert_int_equal(n, 0);
}

static int group_setup(void **state)
{
    uuid_0 = sweep_guest_uuid(0);
    uuid_1 = sweep_guest_uuid(1);
    private_libvirtd = private_libvirtd_start();
    skipped = !private_libvirtd;
    if (skipped)
        print_message("SKIP: root, qemu-system-x86_64 and a private libvirtd are needed\n");
    return 0;
}

static int group_teardown(void **state)
{
    if (private_libvirtd)
        private_libvirtd_end(private_libvirtd);
    return 0;
}

int main(void)
{
    struct CMUnitTest tests[G_N_ELEMENTS(scripts)];
    int failed;

    for (gsize i = 0; i < G_N_ELEMENTS(scripts); i++)
        tests[i] = (struct CMUnitTest){scripts[i].name, run_both, NULL, NULL, (void *)&scripts[i]};
    failed = cmocka_run_group_tests(tests, group_setup, group_teardown);
    return failed == 0 && skipped ? 77 : failed;
}
