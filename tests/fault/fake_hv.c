/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "fault/fake_hv.h"

#include "base/clock.h"
#include "base/error.h"
#include "base/fd.h"
#include "hv/domain_xml.h"
#include "hv/libvirt_private.h"

#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

static char *part_path(FakeHv *fake, const char *name)
{
    gboolean runtime = g_str_equal(name, "state") || g_str_equal(name, "live.xml");

    return g_build_filename(runtime && fake->run_dir ? fake->run_dir : fake->dir, name, NULL);
}

static char *read_part(FakeHv *fake, const char *name)
{
    g_autofree char *path = part_path(fake, name);
    char *text = NULL;

    g_file_get_contents(path, &text, NULL, NULL);
    return text;
}

static void write_part(FakeHv *fake, const char *name, const char *text)
{
    g_autofree char *path = part_path(fake, name);

    if (text)
        g_assert_true(g_file_set_contents(path, text, -1, NULL));
    else
        unlink(path);
}

/* As libvirt does: a file beside it, flushed, renamed into place, and the directory is not flushed. Then what we do after it. */
static gboolean write_definition(FakeHv *fake, const char *xml, GError **error)
{
    g_autofree char *path = g_build_filename(fake->dir, "inactive.xml", NULL);
    g_autofree char *new_path = g_strconcat(path, ".new", NULL);
    vr_autofd fd = open(new_path, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);

    g_assert_cmpint(write(fd, xml, strlen(xml)), ==, (gssize)strlen(xml));
    g_assert_cmpint(fsync(fd), ==, 0);
    g_assert_cmpint(rename(new_path, path), ==, 0);
    return vr_libvirt_flush_dir(fake->dir, error);
}

VrDomainState fake_hv_state(FakeHv *fake)
{
    g_autofree char *text = read_part(fake, "state");

    return (VrDomainState)atoi(text);
}

void fake_hv_set_state(FakeHv *fake, VrDomainState state)
{
    g_autofree char *text = g_strdup_printf("%d", state);

    write_part(fake, "state", text);
    if (state == VR_DOMAIN_OFF)
        write_part(fake, "live.xml", NULL);
}

/* --- NVRAM ------------------------------------------------------------------------------------------- */

/* The file that the domain runs on; NULL: none. Free with g_free. */
static char *nvram_of(FakeHv *fake, const char *xml)
{
    g_autoptr(VrDomainDef) def = vr_domain_def_parse(xml, NULL);

    return def->nvram_unnamed ? g_build_filename(fake->dir, FAKE_NVRAM, NULL) : g_strdup(def->nvram);
}

/* As libvirt and the firmware do: an absent file is made of the template, and what runs on it writes its name into it. FALSE: it cannot be
 * opened for writing by QEMU's user. */
static gboolean boot_nvram(const char *path, const char *os_path)
{
    g_autofree char *blank = g_strnfill(FAKE_NVRAM_BYTES, 'T');
    char mark[FAKE_NVRAM_MARK] = "";
    struct stat st;
    int fd;

    if (!g_file_test(path, G_FILE_TEST_EXISTS))
        g_assert_true(g_file_set_contents_full(path, blank, FAKE_NVRAM_BYTES, G_FILE_SET_CONTENTS_NONE, 0600, NULL));
    g_assert_cmpint(stat(path, &st), ==, 0);
    if (!(st.st_mode & 0200))
        return FALSE;
    g_assert_cmpuint(strlen(path) + 1 + strlen(os_path ? os_path : ""), <, sizeof(mark));
    strcpy(mark, path);
    strcpy(mark + strlen(path) + 1, os_path ? os_path : "");
    fd = open(path, O_WRONLY | O_CLOEXEC);
    g_assert_cmpint(pwrite(fd, mark, sizeof(mark), 0), ==, sizeof(mark));
    close(fd);
    return TRUE;
}

/* FALSE: QEMU ends at once. */
static gboolean run(FakeHv *fake)
{
    g_autofree char *xml = read_part(fake, "inactive.xml");
    g_autofree char *nvram = nvram_of(fake, xml);
    g_autofree char *live = nvram ? vr_domain_xml_with_nvram(xml, nvram, NULL) : g_strdup(xml);

    g_autofree char *os_path = fake_hv_os_path(fake, FALSE);

    if (nvram && !boot_nvram(nvram, os_path))
        return FALSE;
    write_part(fake, "live.xml", live);
    fake_hv_set_state(fake, VR_DOMAIN_RUNNING);
    fake->starts++;
    return TRUE;
}

void fake_hv_boot_host(FakeHv *fake, gboolean autostart)
{
    fake_hv_set_state(fake, VR_DOMAIN_OFF);
    if (autostart)
        run(fake);
}

char *fake_hv_os_path(FakeHv *fake, gboolean live)
{
    g_autofree char *xml = read_part(fake, live ? "live.xml" : "inactive.xml");
    g_autoptr(VrDomainDef) def = xml ? vr_domain_def_parse(xml, NULL) : NULL;
    const VrDomainDisk *disk = def ? vr_domain_def_os_disk(def, "vda", NULL) : NULL;

    return disk ? g_strdup(disk->source) : NULL;
}

void fake_hv_edit(FakeHv *fake, const char *from, const char *to)
{
    g_autofree char *xml = read_part(fake, "inactive.xml");
    g_autoptr(GString) text = g_string_new(xml);

    g_assert_cmpuint(g_string_replace(text, from, to, 1), ==, 1);
    write_part(fake, "inactive.xml", text->str);
}

/* --- the script -------------------------------------------------------------------------------------- */

void fake_hv_late(FakeHv *fake, char what, const char *xml, guint by)
{
    g_free(fake->late.xml);
    fake->late.what = what;
    fake->late.xml = g_strdup(xml);
    fake->late.left = by;
    fake->late.answered_ms = 0;
}

static void land(FakeHv *fake)
{
    char what = fake->late.what;

    fake->late.what = 0;
    if (what == 'd')
        write_part(fake, "inactive.xml", fake->late.xml);
    else if (what == 's' && fake_hv_state(fake) == VR_DOMAIN_OFF)
        run(fake);
    else if (what == 'x')
        fake_hv_set_state(fake, VR_DOMAIN_OFF);
    g_string_append_printf(fake->log, "(%c)", what);
}

static void land_if_due(FakeHv *fake)
{
    if (fake->late.what == 0)
        return;
    if (--fake->late.left == 0 ||
        (fake->late.answered_ms > 0 && vr_clock_now_ms() > fake->late.answered_ms + FAKE_LATE_MS))
        land(fake);
}

/* A call that changes something takes effect. */
static void note_effect(FakeHv *fake, char what)
{
    g_string_append_c(fake->log, what);
    if (fake->late.what && fake->late.answered_ms == 0)
        fake->late.answered_ms = vr_clock_now_ms();
}

static FakeFault next_fault(FakeHv *fake)
{
    fake->point++;
    land_if_due(fake);
    if (fake->fault_at == 0 || fake->point < fake->fault_at || (fake->point > fake->fault_at && !fake->fault_stays))
        return FAKE_NONE;
    if (fake->fault == FAKE_KILL_BEFORE)
        _exit(FAKE_KILLED);
    return fake->fault;
}

/* TRUE: the effect shall happen. */
static gboolean before(FakeFault fault, GError **error)
{
    if (fault == FAKE_REFUSE)
        g_set_error(error, VR_ERROR, VR_ERROR_HYPERVISOR, "scripted refusal");
    else if (fault == FAKE_LOST_BEFORE || fault == FAKE_LATE)
        g_set_error(error, VR_ERROR, VR_ERROR_DISCONNECTED, "scripted loss of the connection");
    return fault != FAKE_REFUSE && fault != FAKE_LOST_BEFORE && fault != FAKE_LATE;
}

static gboolean after(FakeFault fault, GError **error)
{
    if (fault == FAKE_KILL_AFTER)
        _exit(FAKE_KILLED);
    if (fault == FAKE_LOST_AFTER)
        g_set_error(error, VR_ERROR, VR_ERROR_DISCONNECTED, "scripted loss of the connection");
    return fault != FAKE_LOST_AFTER;
}

/* --- operations -------------------------------------------------------------------------------------- */

static GPtrArray *do_list(VrHv *hv, GError **error)
{
    GPtrArray *uuids = g_ptr_array_new_with_free_func(g_free);
    FakeFault fault = next_fault((FakeHv *)hv);

    g_ptr_array_add(uuids, g_strdup(FAKE_UUID));
    if (before(fault, error) && after(fault, error))
        return uuids;
    g_ptr_array_unref(uuids);
    return NULL;
}

/* One snapshot, when the test wrote kept.xml. */
static GPtrArray *do_kept_xml(VrHv *hv, const char *uuid, GError **error)
{
    GPtrArray *xml = g_ptr_array_new_with_free_func(g_free);
    char *kept = read_part((FakeHv *)hv, "kept.xml");

    if (kept)
        g_ptr_array_add(xml, kept);
    return xml;
}

static gboolean do_lookup(VrHv *hv, const char *name, char uuid[VR_UUID_LENGTH + 1], GError **error)
{
    if (!g_str_equal(name, "fake") && !g_str_equal(name, FAKE_UUID)) {
        g_set_error(error, VR_ERROR, VR_ERROR_NOT_FOUND, "no domain '%s'", name);
        return FALSE;
    }
    g_strlcpy(uuid, FAKE_UUID, VR_UUID_LENGTH + 1);
    return TRUE;
}

static gboolean do_info(VrHv *hv, const char *uuid, VrDomainInfo *info, GError **error)
{
    FakeHv *fake = (FakeHv *)hv;
    FakeFault fault = next_fault(fake);

    memset(info, 0, sizeof(*info));
    if (!before(fault, error))
        return FALSE;
    g_strlcpy(info->uuid, uuid, sizeof(info->uuid));
    info->name = g_strdup("fake");
    if (fake->stopping > 0 && --fake->stopping == 0)
        fake_hv_set_state(fake, VR_DOMAIN_OFF);
    info->state = fake_hv_state(fake);
    if (info->state == VR_DOMAIN_OFF)
        info->reason = fake->off_reason != VR_REASON_OTHER ? fake->off_reason : VR_REASON_SHUTDOWN;
    info->id = info->state == VR_DOMAIN_OFF ? -1 : 1;
    info->persistent = TRUE;
    info->managed_save = fake->managed_save;
    info->snapshots = fake->snapshots;
    info->checkpoints = fake->checkpoints;
    info->job = g_strdup(fake->job);
    if (after(fault, error))
        return TRUE;
    vr_domain_info_clear(info);
    return FALSE;
}

static char *xml_part(VrHv *hv, const char *name, GError **error)
{
    FakeHv *fake = (FakeHv *)hv;
    FakeFault fault = next_fault(fake);
    g_autofree char *xml = NULL;

    if (!before(fault, error))
        return NULL;
    xml = read_part(fake, name);
    if (!xml)
        g_set_error(error, VR_ERROR, VR_ERROR_HYPERVISOR, "the domain is off");
    return xml && after(fault, error) ? g_steal_pointer(&xml) : NULL;
}

static char *do_inactive_xml(VrHv *hv, const char *uuid, GError **error)
{
    return xml_part(hv, "inactive.xml", error);
}

static char *do_live_xml(VrHv *hv, const char *uuid, GError **error)
{
    return xml_part(hv, "live.xml", error);
}

static gboolean do_define(VrHv *hv, const char *uuid, const char *xml, GError **error)
{
    FakeFault fault = next_fault((FakeHv *)hv);

    if (fault == FAKE_LATE)
        fake_hv_late((FakeHv *)hv, 'd', xml, ((FakeHv *)hv)->late_by);
    if (!before(fault, error))
        return FALSE;
    ((FakeHv *)hv)->defines++;
    note_effect((FakeHv *)hv, 'd');
    return write_definition((FakeHv *)hv, xml, error) && after(fault, error);
}

static gboolean do_start(VrHv *hv, const char *uuid, GError **error)
{
    FakeHv *fake = (FakeHv *)hv;
    FakeFault fault = next_fault(fake);
    g_autofree char *path = fake_hv_os_path(fake, FALSE);

    if (fault == FAKE_LATE)
        fake_hv_late(fake, 's', NULL, fake->late_by);
    if (!before(fault, error))
        return FALSE;
    if (fake_hv_state(fake) != VR_DOMAIN_OFF) {
        g_set_error(error, VR_ERROR, VR_ERROR_HYPERVISOR, "the domain is running already");
        return FALSE;
    }
    if (fake->fail_new_disk && strstr(path, "/disks/")) {
        g_set_error(error, VR_ERROR, VR_ERROR_HYPERVISOR, "QEMU does not start");
        return FALSE;
    }
    if (!run(fake)) {
        g_set_error(error, VR_ERROR, VR_ERROR_HYPERVISOR, "QEMU cannot open the NVRAM");
        return FALSE;
    }
    note_effect(fake, 's');
    if (fake->ends_at_once)
        fake_hv_set_state(fake, VR_DOMAIN_OFF);
    return after(fault, error);
}

static gboolean do_shutdown(VrHv *hv, const char *uuid, VrShutdownMode mode, GError **error)
{
    FakeHv *fake = (FakeHv *)hv;
    FakeFault fault = next_fault(fake);

    if (!before(fault, error))
        return FALSE;
    fake->shutdowns++;
    if (fake->stops_after > 0)
        fake->stopping = fake->stops_after;
    else if (!fake->deaf)
        fake_hv_set_state(fake, VR_DOMAIN_OFF);
    return after(fault, error);
}

static gboolean do_destroy(VrHv *hv, const char *uuid, GError **error)
{
    FakeFault fault = next_fault((FakeHv *)hv);

    if (fault == FAKE_LATE)
        fake_hv_late((FakeHv *)hv, 'x', NULL, ((FakeHv *)hv)->late_by);
    if (!before(fault, error))
        return FALSE;
    note_effect((FakeHv *)hv, 'x');
    fake_hv_set_state((FakeHv *)hv, VR_DOMAIN_OFF);
    return after(fault, error);
}

static void do_wait_change(VrHv *hv, const char *uuid, gint64 deadline_ms)
{
    vr_clock_sleep_until(MIN(deadline_ms, vr_clock_now_ms() + 5));
}

static char *do_agent(VrHv *hv, const char *uuid, const char *command, int timeout_s, GError **error)
{
    g_set_error(error, VR_ERROR, VR_ERROR_AGENT, "the scripted guest has no agent");
    return NULL;
}

static void do_close(VrHv *hv)
{
}

static GPtrArray *do_leases(VrHv *hv, const char *uuid, GError **error)
{
    return g_ptr_array_new_with_free_func(g_free);
}

static char *do_nvram(VrHv *hv, const char *uuid, const char *xml, GError **error)
{
    FakeHv *fake = (FakeHv *)hv;
    FakeFault fault = next_fault(fake);

    g_autofree char *configured = xml ? NULL : read_part(fake, "inactive.xml");

    if (!before(fault, error) || !after(fault, error))
        return NULL;
    return nvram_of(fake, xml ? xml : configured);
}

static const VrHvOps ops = {.list = do_list,
                            .lookup = do_lookup,
                            .info = do_info,
                            .inactive_xml = do_inactive_xml,
                            .live_xml = do_live_xml,
                            .kept_xml = do_kept_xml,
                            .define = do_define,
                            .start = do_start,
                            .shutdown = do_shutdown,
                            .destroy = do_destroy,
                            .wait_change = do_wait_change,
                            .agent = do_agent,
                            .leases = do_leases,
                            .nvram = do_nvram,
                            .close = do_close};

FakeHv *fake_hv_new(const char *dir, const char *xml, gboolean running)
{
    FakeHv *fake = g_new0(FakeHv, 1);

    fake->hv.ops = &ops;
    fake->log = g_string_new(NULL);
    fake->dir = g_strdup(dir);
    if (!xml)
        return fake;
    write_part(fake, "inactive.xml", xml);
    fake_hv_set_state(fake, VR_DOMAIN_OFF);
    if (running)
        run(fake);
    fake->starts = 0;
    return fake;
}

void fake_hv_free(FakeHv *fake)
{
    if (!fake)
        return;
    g_free(fake->dir);
    g_free(fake->run_dir);
    g_free(fake->late.xml);
    g_string_free(fake->log, TRUE);
    g_free(fake);
}
