/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * Against qemu:///system with the cheap guest: define and dump round trips of rich XML, a whole swap of the OS disk
 * and back, power, what libvirt refuses. Skipped, with the reason, where libvirtd or QEMU cannot be had.
 */
#include "hv/support.h"

#include "base/child.h"
#include "hv/connection.h"
#include "hv/domain.h"
#include "hv/domain_xml.h"
#include "hv/preflight.h"
#include <glib/gstdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

/* The one thing that this test needs of libvirt itself: taking a domain away is no operation of VrHv. */
#include <libvirt/libvirt.h>

#define RICH_UUID "a66126ce-725d-4e6d-b45e-48c275ea11a5"

typedef struct {
    VrHv *hv;
    char *dir, *uuid, *name;
} Host;

static gboolean skipped;

static char *path_of(const Host *host, const char *name)
{
    return g_build_filename(host->dir, name, NULL);
}

static void undefine(const char *uuid)
{
    virConnectPtr conn = virConnectOpen("qemu:///system");
    virDomainPtr domain = conn != NULL ? virDomainLookupByUUIDString(conn, uuid) : NULL;

    if (domain != NULL) {
        virDomainDestroy(domain);
        virDomainUndefineFlags(domain, VIR_DOMAIN_UNDEFINE_MANAGED_SAVE | VIR_DOMAIN_UNDEFINE_SNAPSHOTS_METADATA);
        virDomainFree(domain);
    }
    if (conn != NULL)
        virConnectClose(conn);
}

static gboolean managed_save(const char *uuid)
{
    virConnectPtr conn = virConnectOpen("qemu:///system");
    virDomainPtr domain = virDomainLookupByUUIDString(conn, uuid);
    int saved = virDomainManagedSave(domain, 0);

    virDomainFree(domain);
    virConnectClose(conn);
    return saved == 0;
}

static int host_setup(void **state)
{
    g_autoptr(GError) error = NULL;
    Host *host = g_new0(Host, 1);

    if (geteuid() != 0 || access("/usr/bin/qemu-system-x86_64", X_OK) != 0)
        print_message("SKIP: root and qemu-system-x86_64 are needed\n");
    else if ((host->hv = vr_connection_open("qemu:///system", NULL, &error)) == NULL)
        print_message("SKIP: %s\n", error->message);
    if (host->hv == NULL) {
        skipped = TRUE;
        g_free(host);
        return 0;
    }
    host->dir = g_strdup("/var/lib/virt-reimage-test-XXXXXX");
    assert_non_null(g_mkdtemp(host->dir));
    assert_int_equal(chmod(host->dir, 0711), 0);
    host->uuid = g_uuid_string_random();
    host->name = g_strdup_printf("hvtest-c %d: ä", (int)getpid());
    *state = host;
    return 0;
}

static int host_teardown(void **state)
{
    Host *host = *state;

    if (host == NULL)
        return 0;
    undefine(host->uuid);
    vr_hv_close(host->hv);
    const char *const rm[] = {"rm", "-rf", "--one-file-system", host->dir, NULL};
    vr_child_run(rm, NULL, NULL, NULL);
    g_free(host->dir);
    g_free(host->uuid);
    g_free(host->name);
    g_free(host);
    return 0;
}

static Host *host_of(void **state)
{
    if (*state == NULL)
        skip();
    return *state;
}

static void run_tool(const char *const *argv)
{
    g_autoptr(GError) error = NULL;

    if (!vr_child_run(argv, NULL, NULL, &error))
        fail_msg("%s: %s", argv[0], error->message);
}

#define tool(...) run_tool((const char *const[]){__VA_ARGS__, NULL})

static void make_guest_disk(const char *path, const char *version, const char *format)
{
    g_autofree char *script = g_build_filename(g_getenv("VR_SOURCE_DIR"), "tests", "lib", "cheap_guest.py", NULL);

    tool("/usr/bin/python3", script, path, version, format);
}

/* A guest on a raw disk of version 1, with a data disk and an agent channel that nobody answers. */
static char *define_guest(Host *host)
{
    g_autoptr(GError) error = NULL;
    g_autofree char *os = path_of(host, "gen: 0 ä.raw");
    g_autofree char *data = path_of(host, "data.raw");
    g_autofree char *log = path_of(host, "console.log");

    make_guest_disk(os, "1", "raw");
    make_guest_disk(data, "data", "raw");
    g_autofree char *xml = g_markup_printf_escaped(
        "<domain type='qemu'><name>%s</name><uuid>%s</uuid><memory unit='MiB'>16</memory>"
        "<os><type arch='x86_64' machine='pc'>hvm</type><boot dev='hd'/></os><features><acpi/></features><devices>"
        "<disk type='file' device='disk'><driver name='qemu' type='raw' cache='none' discard='unmap'/><source "
        "file='%s'/>"
        "<target dev='vda' bus='virtio'/><serial>OS01</serial></disk>"
        "<disk type='file' device='disk'><driver name='qemu' type='raw'/><source file='%s'/>"
        "<target dev='vdb' bus='virtio'/><serial>DATA01</serial></disk>"
        "<serial type='file'><source path='%s' append='on'/></serial>"
        "<channel type='unix'><target type='virtio' name='org.qemu.guest_agent.0'/></channel>"
        "<memballoon model='none'/></devices></domain>",
        host->name, host->uuid, os, data, log);
    if (!vr_hv_define(host->hv, host->uuid, xml, &error))
        fail_msg("%s", error->message);
    return vr_hv_inactive_xml(host->hv, host->uuid, NULL);
}

static void wait_console(const Host *host, const char *text)
{
    g_autofree char *log = path_of(host, "console.log");
    gint64 deadline = vr_clock_now_ms() + 20000;

    while (vr_clock_now_ms() < deadline) {
        g_autofree char *content = NULL;
        if (g_file_get_contents(log, &content, NULL, NULL) && g_str_has_suffix(content, text))
            return;
        g_usleep(50000);
    }
    fail_msg("the guest did not say %s", text);
}

/* -- Round trips ---------------------------------------------------------------------------------- */

/* Rich XML: libvirt's dump of our edit differs from its dump before only where it may, and the way back is exact. */
static void rich_xml_round_trip(void **state)
{
    Host *host = host_of(state);
    g_autoptr(GError) error = NULL;
    g_autofree char *text = fixture("rich.xml");
    const VrChainLink chain[] = {{"/var/lib/x y: ä/g2.qcow2", "qcow2"}, {"/var/lib/x/base.raw", "raw"}};
    const VrDomainRecord record = {"shop", 2, "debian-12", "12.1", "swap-1"};

    undefine(RICH_UUID);
    assert_true(vr_hv_define(host->hv, RICH_UUID, text, &error));
    g_autofree char *before = vr_hv_inactive_xml(host->hv, RICH_UUID, &error);
    g_autofree char *intent = vr_domain_xml_with_chain(before, "vda", chain, 2, &record, &error);
    assert_true(vr_hv_define(host->hv, RICH_UUID, intent, &error));
    g_autofree char *after = vr_hv_inactive_xml(host->hv, RICH_UUID, &error);
    gboolean same = vr_domain_xml_same(intent, after);
    gboolean proven = vr_domain_xml_prove(before, after, "vda", &error);
    g_autofree char *back = vr_domain_xml_with_kept(after, "vda", before, NULL, NULL);
    gboolean defined = vr_hv_define(host->hv, RICH_UUID, back, NULL);
    g_autofree char *last = vr_hv_inactive_xml(host->hv, RICH_UUID, NULL);
    g_autofree char *public = vr_hv_public_xml(host->hv, RICH_UUID, NULL);
    undefine(RICH_UUID);
    expect_no_error(error);
    assert_true(same && proven && defined);
    g_autofree char *printed = vr_domain_xml_as_libvirt(after, NULL);
    assert_string_equal(printed, after);
    assert_null(strstr(public, "s3cret"));
    assert_non_null(strstr(after, "s3cret"));
    assert_non_null(strstr(after, "<seclabel model='selinux' relabel='no'/>"));
    assert_true(vr_domain_xml_same(before, last));
}

/* -- A swap and back, on a guest that runs -------------------------------------------------------- */

static char *base_facts(const char *path)
{
    g_autofree char *content = NULL;
    gsize length;
    struct stat st;

    assert_true(g_file_get_contents(path, &content, &length, NULL));
    assert_int_equal(stat(path, &st), 0);
    g_autofree char *digest = g_compute_checksum_for_data(G_CHECKSUM_SHA256, (guchar *)content, length);
    return g_strdup_printf("%s %u:%u %o", digest, st.st_uid, st.st_gid, st.st_mode);
}

static void swap_and_back(void **state)
{
    Host *host = host_of(state);
    const VrStopPolicy acpi = {VR_STOP_AUTO, 30000, FALSE};
    g_autoptr(GError) error = NULL;
    g_auto(VrDomainInfo) info = {0};
    VrStopResult stopped;
    g_autofree char *before = define_guest(host);
    g_autofree char *base = path_of(host, "base: 2.raw");
    g_autofree char *overlay = path_of(host, "g1 <&>'.qcow2");
    const VrChainLink chain[] = {{overlay, "qcow2"}, {base, "raw"}};
    const VrDomainRecord record = {"shop", 1, "cheap", "2", "swap-1"};

    make_guest_disk(base, "2", "raw");
    assert_int_equal(chmod(base, 0444), 0);
    tool("qemu-img", "create", "-q", "-f", "qcow2", "-F", "raw", "-b", base, overlay);
    g_autofree char *facts = base_facts(base);
    assert_true(vr_domain_start(host->hv, host->uuid, NULL, &info, &error));
    assert_true(info.id > 0);
    wait_console(host, "version 1\r\n");
    assert_false(vr_hv_start(host->hv, host->uuid, &error));
    expect_error(&error, VR_ERROR_HYPERVISOR, "already running");

    assert_true(vr_domain_stop(host->hv, host->uuid, NULL, &acpi, &stopped, &error));
    assert_false(stopped.forced);
    assert_int_equal(stopped.reason, VR_REASON_SHUTDOWN);
    g_autofree char *intent = vr_domain_xml_with_chain(before, "vda", chain, 2, &record, &error);
    assert_true(vr_hv_define(host->hv, host->uuid, intent, &error));
    g_autofree char *after = vr_hv_inactive_xml(host->hv, host->uuid, &error);
    assert_true(vr_domain_xml_prove(before, after, "vda", &error));
    assert_true(vr_domain_xml_same_os_disk(after, intent, "vda"));
    assert_true(vr_domain_start(host->hv, host->uuid, NULL, NULL, &error));
    g_autofree char *live = vr_hv_live_xml(host->hv, host->uuid, &error);
    assert_true(vr_domain_xml_live_matches(live, intent, "vda", &error));
    assert_false(vr_domain_xml_live_matches(live, before, "vda", &error));
    expect_error(&error, VR_ERROR_CONFLICT, "OS disk");
    wait_console(host, "version 2\r\n");
    g_autofree char *facts_now = base_facts(base);
    assert_string_equal(facts, facts_now); /* not re-owned, not re-moded, not written */

    assert_true(vr_domain_force_off(host->hv, host->uuid, NULL, &error));
    g_autofree char *back = vr_domain_xml_with_kept(after, "vda", before, NULL, &error);
    assert_true(vr_hv_define(host->hv, host->uuid, back, &error));
    g_autofree char *last = vr_hv_inactive_xml(host->hv, host->uuid, &error);
    assert_true(vr_domain_xml_same(before, last));
    assert_true(vr_domain_start(host->hv, host->uuid, NULL, NULL, &error));
    wait_console(host, "version 1\r\n");
}

/* -- State ---------------------------------------------------------------------------------------- */

static void managed_save_is_refused(void **state)
{
    Host *host = host_of(state);
    g_autoptr(GError) error = NULL;
    g_auto(VrDomainInfo) info = {0};
    g_autofree char *xml = define_guest(host);
    g_autoptr(VrDomainDef) def = vr_domain_def_parse(xml, NULL);
    const VrPreflightNeeds needs = {"vda", FALSE};

    assert_true(vr_domain_start(host->hv, host->uuid, NULL, NULL, &error));
    assert_true(managed_save(host->uuid));
    assert_true(vr_hv_info(host->hv, host->uuid, &info, &error));
    assert_int_equal(info.state, VR_DOMAIN_OFF);
    assert_int_equal(info.reason, VR_REASON_SAVED);
    assert_true(info.managed_save && info.persistent);
    g_autoptr(GPtrArray) findings = vr_preflight(&info, def, &needs);
    assert_string_equal(vr_preflight_blocker(findings)->id, "managed-save");
    assert_false(vr_domain_start(host->hv, host->uuid, NULL, NULL, &error));
    expect_error(&error, VR_ERROR_REFUSED, "managed save");
}

/* Another client's block copy and snapshot, seen through info. A copy that is complete stays a job until it is
 * ended. */
static void jobs_and_snapshots_are_seen(void **state)
{
    Host *host = host_of(state);
    g_autoptr(GError) error = NULL;
    g_auto(VrDomainInfo) info = {0};
    g_autofree char *before = NULL;
    g_autofree char *job = NULL;
    g_autofree char *after = NULL;
    g_autofree char *xml = define_guest(host);
    g_autofree char *copy =
        g_markup_printf_escaped("<disk type='file'><source file='%s/copy.raw'/><driver type='raw'/></disk>", host->dir);

    assert_true(vr_domain_start(host->hv, host->uuid, NULL, NULL, &error));
    assert_true(vr_hv_job(host->hv, host->uuid, &before, &error));
    assert_null(before);
    virConnectPtr conn = virConnectOpen("qemu:///system");
    virDomainPtr domain = virDomainLookupByUUIDString(conn, host->uuid);
    int copied = virDomainBlockCopy(domain, "vdb", copy, NULL, 0, VIR_DOMAIN_BLOCK_COPY_TRANSIENT_JOB);
    gboolean ok = vr_hv_job(host->hv, host->uuid, &job, &error);
    virDomainBlockJobAbort(domain, "vdb", 0);
    virDomainSnapshotPtr snapshot =
        virDomainSnapshotCreateXML(domain, "<domainsnapshot/>", VIR_DOMAIN_SNAPSHOT_CREATE_DISK_ONLY);
    if (snapshot != NULL)
        virDomainSnapshotFree(snapshot);
    virDomainFree(domain);
    virConnectClose(conn);
    assert_int_equal(copied, 0);
    assert_true(ok);
    assert_string_equal(job, "block copy on vdb");
    assert_true(vr_hv_job(host->hv, host->uuid, &after, &error));
    assert_null(after);
    assert_true(vr_hv_info(host->hv, host->uuid, &info, &error));
    assert_int_equal(info.snapshots, 1);
}

static void an_agent_that_is_not_there(void **state)
{
    Host *host = host_of(state);
    g_autoptr(GError) error = NULL;
    g_autofree char *xml = define_guest(host);

    assert_null(vr_hv_agent(host->hv, host->uuid, "{\"execute\":\"guest-ping\"}", 2, &error));
    expect_error(&error, VR_ERROR_HYPERVISOR, "not running");
    assert_true(vr_domain_start(host->hv, host->uuid, NULL, NULL, &error));
    gint64 before = vr_clock_now_ms();
    assert_null(vr_hv_agent(host->hv, host->uuid, "{\"execute\":\"guest-ping\"}", 2, &error));
    expect_error(&error, VR_ERROR_AGENT, "agent");
    assert_in_range(vr_clock_now_ms() - before, 0, 12000);
    assert_false(vr_hv_shutdown(host->hv, host->uuid, VR_SHUTDOWN_AGENT, &error));
    expect_error(&error, VR_ERROR_AGENT, "agent");
}

static void refusals_change_nothing(void **state)
{
    Host *host = host_of(state);
    g_autoptr(GError) error = NULL;
    g_autofree char *before = define_guest(host);
    g_autofree char *wrong = replaced(before, "<serial>OS01</serial>", "<serial>OS01</serial><nonsense/>");
    g_autofree char *missing = replaced(before, "data.raw", "absent.raw");

    assert_false(vr_hv_define(host->hv, host->uuid, wrong, &error));
    expect_error(&error, VR_ERROR_HYPERVISOR, "define");
    g_autofree char *now = vr_hv_inactive_xml(host->hv, host->uuid, NULL);
    assert_true(vr_domain_xml_same(before, now));
    assert_true(vr_hv_define(host->hv, host->uuid, missing, &error));
    assert_false(vr_domain_start(host->hv, host->uuid, NULL, NULL, &error));
    expect_error(&error, VR_ERROR_HYPERVISOR, "absent.raw");
}

#define host_test(f) cmocka_unit_test_setup_teardown(f, host_setup, host_teardown)

int main(void)
{
    const struct CMUnitTest tests[] = {
        host_test(rich_xml_round_trip),     host_test(swap_and_back),
        host_test(managed_save_is_refused), host_test(an_agent_that_is_not_there),
        host_test(refusals_change_nothing), host_test(jobs_and_snapshots_are_seen),
    };
    int failed = cmocka_run_group_tests(tests, NULL, NULL);

    return failed == 0 && skipped ? 77 : failed;
}
