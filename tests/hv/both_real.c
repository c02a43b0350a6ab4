/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* The side of libvirt: a private libvirtd, so that its domains are nobody else's and it may be killed. */
#include "hv/both.h"

#include "fault/sweep_hv.h"
#include "hv/call.h"
#include "hv/connection.h"
#include <libvirt/libvirt.h>
#include <signal.h>
#include <stdlib.h>
#include <unistd.h>

#define CALL_MS 20000 /* the first define asks QEMU what it can do */
#define HURRIED_CALL_MS 2000

typedef struct {
    Side side;
    PrivateLibvirtd *daemon;
    virConnectPtr conn; /* of the outside; not of side.hv */
    int callback;
    VrGate gate; /* guards the letters */
    GString *letters[GUESTS];
} Real;

/* --- events ------------------------------------------------------------------------------------------ */

/* Resumed and shut down say no more than the started before and the stopped after them; an undefine is done outside. */
static char letter_of(int event, int detail)
{
    if (event == VIR_DOMAIN_EVENT_DEFINED)
        return 'd';
    if (event == VIR_DOMAIN_EVENT_STARTED)
        return 's';
    if (event == VIR_DOMAIN_EVENT_STOPPED)
        return detail == VIR_DOMAIN_EVENT_STOPPED_DESTROYED ? 'x' : 'o';
    return 0;
}

static int on_lifecycle(virConnectPtr conn, virDomainPtr domain, int event, int detail, void *data)
{
    Real *real = data;
    char letter = letter_of(event, detail);

    vr_gate_lock(&real->gate);
    for (guint i = 0; i < GUESTS && letter; i++)
        if (g_str_equal(virDomainGetName(domain), sweep_guest_name(i)))
            g_string_append_c(real->letters[i], letter);
    vr_gate_unlock(&real->gate);
    return 0;
}

/* The last event of a change may come a moment after its answer. */
static char *real_events(Side *side, guint guest)
{
    Real *real = (Real *)side;
    char *letters;

    g_usleep(300 * 1000);
    vr_gate_lock(&real->gate);
    letters = g_strdup(real->letters[guest]->str);
    g_string_truncate(real->letters[guest], 0);
    vr_gate_unlock(&real->gate);
    return letters;
}

static void connect_outside(Real *real)
{
    real->conn = virConnectOpen(real->daemon->uri);
    assert_non_null(real->conn);
    real->callback = virConnectDomainEventRegisterAny(real->conn, NULL, VIR_DOMAIN_EVENT_ID_LIFECYCLE,
                                                      VIR_DOMAIN_EVENT_CALLBACK(on_lifecycle), real, NULL);
    assert_true(real->callback >= 0);
}

static void disconnect_outside(Real *real)
{
    virConnectDomainEventDeregisterAny(real->conn, real->callback);
    virConnectClose(real->conn);
}

/* --- outside ----------------------------------------------------------------------------------------- */

static void snapshot(virDomainPtr domain, const char *dir)
{
    g_autofree char *xml = virDomainGetXMLDesc(domain, VIR_DOMAIN_XML_INACTIVE);
    g_autofree char *snapshot =
        g_strdup_printf("<domainsnapshot><name>one</name><creationTime>1</creationTime><state>shutoff</state>"
                        "<memory snapshot='no'/>%s</domainsnapshot>",
                        xml);
    virDomainSnapshotPtr made = virDomainSnapshotCreateXML(domain, snapshot, VIR_DOMAIN_SNAPSHOT_CREATE_REDEFINE);

    assert_non_null(made);
    virDomainSnapshotFree(made);
}

static void copy(virDomainPtr domain, const char *dir)
{
    g_autofree char *xml =
        g_strdup_printf("<disk type='file'><source file='%s/copy.raw'/><driver type='raw'/></disk>", dir);

    assert_int_equal(virDomainBlockCopy(domain, "vdb", xml, NULL, 0, VIR_DOMAIN_BLOCK_COPY_TRANSIENT_JOB), 0);
}

/* Its pid lies in libvirtd's namespace. */
static void crash(const Real *real, guint guest)
{
    g_autofree char *path =
        g_strdup_printf("/proc/%d/root/run/libvirt/qemu/%s.pid", (int)real->daemon->pid, sweep_guest_name(guest));
    g_autofree char *text = NULL;

    assert_true(g_file_get_contents(path, &text, NULL, NULL));
    assert_int_equal(kill((pid_t)atoi(text), SIGSEGV), 0);
}

/* It says one line at each boot. */
static void wait_boot(const Real *real, guint guest)
{
    g_autofree char *log = g_strdup_printf("%s/console%u.log", real->side.dir, guest);
    gint64 deadline = vr_clock_now_ms() + 20000;

    while (vr_clock_now_ms() < deadline) {
        g_autofree char *said = NULL;
        if (g_file_get_contents(log, &said, NULL, NULL) && g_str_has_suffix(said, "\n")) {
            assert_int_equal(truncate(log, 0), 0);
            return;
        }
        g_usleep(50 * 1000);
    }
    fail_msg("the guest does not boot: %s", log);
}

static int act(Real *real, virDomainPtr domain, guint guest, Outside what)
{
    switch (what) {
    case UNDEFINE:
        return virDomainUndefineFlags(domain, VIR_DOMAIN_UNDEFINE_MANAGED_SAVE |
                                                  VIR_DOMAIN_UNDEFINE_SNAPSHOTS_METADATA |
                                                  VIR_DOMAIN_UNDEFINE_KEEP_NVRAM);
    case AUTOSTART:
        return virDomainSetAutostart(domain, 1);
    case SUSPEND:
        return virDomainSuspend(domain);
    case RESUME:
        return virDomainResume(domain);
    case SAVE:
        return virDomainManagedSave(domain, 0);
    case DROP_SAVE:
        return virDomainManagedSaveRemove(domain, 0);
    case SNAPSHOT:
        snapshot(domain, real->side.dir);
        return 0;
    case COPY:
        copy(domain, real->side.dir);
        return 0;
    case CRASH:
        crash(real, guest);
        return 0;
    case BOOTED:
        wait_boot(real, guest);
        return 0;
    default: /* its disk says it */
        return 0;
    }
}

static void real_outside(Side *side, guint guest, Outside what)
{
    Real *real = (Real *)side;
    virDomainPtr domain = virDomainLookupByName(real->conn, sweep_guest_name(guest));

    assert_non_null(domain);
    assert_int_equal(act(real, domain, guest, what), 0);
    virDomainFree(domain);
}

static VrHv *open_hv(const Real *real, gint64 timeout_ms)
{
    const VrConnectionOptions options = {timeout_ms};
    VrHv *hv = vr_connection_open(real->daemon->uri, &options, NULL);

    assert_non_null(hv);
    return hv;
}

static void real_daemon(Side *side, Daemon what)
{
    Real *real = (Real *)side;

    if (what == HURRY) {
        vr_hv_close(side->hv);
        side->hv = open_hv(real, HURRIED_CALL_MS);
        return;
    }
    if (what != KILL_DAEMON) {
        kill(real->daemon->pid, what == STOP_DAEMON ? SIGSTOP : SIGCONT);
        return;
    }
    disconnect_outside(real);
    private_libvirtd_again(real->daemon);
    connect_outside(real);
}

static char *real_volume_path(Side *side, const char *pool, const char *volume, GError **error)
{
    return vr_connection_volume_path(side->hv, pool, volume, error);
}

/* --- the side ---------------------------------------------------------------------------------------- */

static void remove_guest(Real *real, guint guest)
{
    virDomainPtr domain = virDomainLookupByName(real->conn, sweep_guest_name(guest));

    if (!domain)
        return;
    virDomainDestroy(domain);
    virDomainUndefineFlags(domain, VIR_DOMAIN_UNDEFINE_MANAGED_SAVE | VIR_DOMAIN_UNDEFINE_SNAPSHOTS_METADATA |
                                       VIR_DOMAIN_UNDEFINE_NVRAM);
    virDomainFree(domain);
}

static void remove_pool(Real *real)
{
    virStoragePoolPtr pool = virStoragePoolLookupByName(real->conn, "guests");

    if (!pool)
        return;
    virStoragePoolDestroy(pool);
    virStoragePoolFree(pool);
}

static void real_close(Side *side)
{
    Real *real = (Real *)side;

    remove_pool(real);
    for (guint i = 0; i < GUESTS; i++)
        remove_guest(real, i);
    disconnect_outside(real);
    vr_hv_close(side->hv);
    for (guint i = 0; i < GUESTS; i++)
        g_string_free(real->letters[i], TRUE);
    vr_gate_clear(&real->gate);
    g_free(real);
}

static void make_pool(Real *real)
{
    g_autofree char *xml = g_strdup_printf(
        "<pool type='dir'><name>guests</name><target><path>%s/disks</path></target></pool>", real->side.dir);
    virStoragePoolPtr pool = virStoragePoolCreateXML(real->conn, xml, 0);

    if (pool)
        virStoragePoolFree(pool);
}

static const SideOps real_ops = {"libvirt", real_outside, real_daemon, real_events, real_volume_path, real_close};

Side *both_real(PrivateLibvirtd *daemon, const char *dir)
{
    Real *real = g_new0(Real, 1);

    real->side.ops = &real_ops;
    real->side.dir = (char *)dir;
    real->daemon = daemon;
    vr_gate_init(&real->gate);
    for (guint i = 0; i < GUESTS; i++)
        real->letters[i] = g_string_new(NULL);
    real->side.hv = open_hv(real, CALL_MS);
    connect_outside(real);
    make_pool(real);
    return &real->side;
}
