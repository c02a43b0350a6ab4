/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "fault/fake_hv.h"

#include "base/child.h"
#include "base/clock.h"
#include "base/error.h"
#include "base/fd.h"
#include "fault/fake_qemu.h"
#include "hv/domain_dom.h"
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

/* --- the domain -------------------------------------------------------------------------------------- */

typedef struct {
    VrDomainState state;
    VrDomainReason reason;
    int id; /* of the last QEMU */
} Power;

/* Of a domain that is not there too: it is off. */
static Power read_power(FakeHv *fake)
{
    g_autofree char *text = read_part(fake, "state");
    int state = VR_DOMAIN_OFF, reason = VR_REASON_OTHER, id = 0;

    g_assert_true(!text || sscanf(text, "%d %d %d", &state, &reason, &id) == 3);
    return (Power){(VrDomainState)state, (VrDomainReason)reason, id};
}

static void write_power(FakeHv *fake, Power power)
{
    g_autofree char *text = g_strdup_printf("%d %d %d", power.state, power.reason, power.id);

    write_part(fake, "state", text);
}

static gboolean has_part(FakeHv *fake, const char *name)
{
    g_autofree char *path = part_path(fake, name);

    return g_file_test(path, G_FILE_TEST_EXISTS);
}

/* A transient domain, which has no inactive XML, is there as long as it runs. */
static gboolean is_there(FakeHv *fake, GError **error)
{
    if (has_part(fake, "inactive.xml") || has_part(fake, "live.xml"))
        return TRUE;
    g_set_error_literal(error, VR_ERROR, VR_ERROR_NOT_FOUND, "there is no such domain");
    return FALSE;
}

/* paused_too: libvirt asks neither QEMU's buttons nor the agent of a guest that is paused. */
static gboolean is_running(FakeHv *fake, gboolean paused_too, GError **error)
{
    if (!is_there(fake, error))
        return FALSE;
    if (has_part(fake, "live.xml") && (paused_too || fake_hv_state(fake) != VR_DOMAIN_PAUSED))
        return TRUE;
    g_set_error_literal(error, VR_ERROR, VR_ERROR_HYPERVISOR, "the domain is not running");
    return FALSE;
}

VrDomainState fake_hv_state(FakeHv *fake)
{
    return read_power(fake).state;
}

static void set_off(FakeHv *fake, VrDomainReason reason)
{
    write_power(fake, (Power){VR_DOMAIN_OFF, reason, read_power(fake).id});
    write_part(fake, "live.xml", NULL);
    write_part(fake, "pull", NULL);
}

static VrDomainReason stop_reason(const FakeHv *fake)
{
    return fake->stop_reason == VR_REASON_OTHER ? VR_REASON_SHUTDOWN : fake->stop_reason;
}

void fake_hv_end(FakeHv *fake, VrDomainReason reason)
{
    set_off(fake, reason);
    g_string_append_c(fake->log, reason == VR_REASON_DESTROYED ? 'x' : 'o');
}

void fake_hv_set_state(FakeHv *fake, VrDomainState state)
{
    if (state == VR_DOMAIN_OFF)
        set_off(fake, VR_REASON_SHUTDOWN);
    else
        write_power(fake, (Power){state, VR_REASON_OTHER, read_power(fake).id});
}

void fake_hv_restart(FakeHv *fake)
{
    if (fake_hv_state(fake) == VR_DOMAIN_OFF)
        set_off(fake, VR_REASON_OTHER);
}

void fake_hv_undefine(FakeHv *fake)
{
    write_part(fake, "inactive.xml", NULL);
    fake->autostart = fake->managed_save = FALSE;
}

void fake_hv_save(FakeHv *fake)
{
    g_autofree char *xml = read_part(fake, "live.xml");

    write_part(fake, "saved.xml", xml);
    fake->managed_save = TRUE;
    fake_hv_end(fake, VR_REASON_SAVED);
}

void fake_hv_snapshot(FakeHv *fake)
{
    g_autofree char *xml = read_part(fake, "inactive.xml");
    g_autofree char *snapshot = g_strdup_printf("<domainsnapshot><name>one</name>%s</domainsnapshot>", xml);

    write_part(fake, "kept.xml", snapshot);
    fake->snapshots++;
}

/* The text of the first <name> or <uuid>. Free with g_free. */
static char *element_of(FakeHv *fake, const char *begin, const char *end)
{
    g_autofree char *inactive = read_part(fake, "inactive.xml");
    g_autofree char *xml = inactive ? g_steal_pointer(&inactive) : read_part(fake, "live.xml");
    const char *from = xml ? strstr(xml, begin) : NULL;
    const char *to = from ? strstr(from, end) : NULL;

    return to ? g_strndup(from + strlen(begin), (gsize)(to - from) - strlen(begin)) : NULL;
}

static char *name_of(FakeHv *fake)
{
    return element_of(fake, "<name>", "</name>");
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
    g_strlcpy(mark, path, sizeof(mark));
    g_strlcpy(mark + strlen(path) + 1, os_path ? os_path : "", sizeof(mark) - strlen(path) - 1);
    fd = open(path, O_WRONLY | O_CLOEXEC);
    g_assert_cmpint(pwrite(fd, mark, sizeof(mark), 0), ==, sizeof(mark));
    close(fd);
    return TRUE;
}

/* Of a domain that leaves its firmware to libvirt, libvirt 9 shows the chosen one while it runs, and not that it chose. */
static char *with_firmware(const char *xml)
{
    g_autoptr(xmlDoc) doc = vr_dom_parse(xml, "domain", NULL);
    xmlNode *os = vr_dom_child(xmlDocGetRootElement(doc), "os");
    xmlNode *nvram = vr_dom_child(os, "nvram");
    xmlNode *loader;

    if (!xmlHasProp(os, (const xmlChar *)"firmware"))
        return g_strdup(xml);
    xmlUnsetProp(os, (const xmlChar *)"firmware");
    vr_dom_remove(vr_dom_child(os, "firmware"));
    loader = xmlNewDocNode(doc, NULL, (const xmlChar *)"loader", (const xmlChar *)FAKE_LOADER);
    xmlSetProp(loader, (const xmlChar *)"readonly", (const xmlChar *)"yes");
    xmlSetProp(loader, (const xmlChar *)"type", (const xmlChar *)"pflash");
    xmlAddPrevSibling(nvram, loader);
    return vr_dom_text_of(doc);
}

/* FALSE: QEMU ends at once. */
static gboolean run(FakeHv *fake)
{
    g_autofree char *xml = read_part(fake, "inactive.xml");
    g_autofree char *nvram = nvram_of(fake, xml);
    g_autofree char *with = nvram ? vr_domain_xml_with_nvram(xml, nvram, NULL) : g_strdup(xml);
    g_autofree char *live = nvram ? with_firmware(with) : g_strdup(xml);

    g_autofree char *os_path = fake_hv_os_path(fake, FALSE);

    if (nvram && !boot_nvram(nvram, os_path))
        return FALSE;
    write_part(fake, "live.xml", live);
    write_power(fake, (Power){VR_DOMAIN_RUNNING, VR_REASON_OTHER, read_power(fake).id + 1});
    fake->starts++;
    return TRUE;
}

void fake_hv_boot_host(FakeHv *fake, gboolean autostart)
{
    set_off(fake, VR_REASON_OTHER);
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
    else if (what == 'x' && fake_hv_state(fake) != VR_DOMAIN_OFF)
        set_off(fake, VR_REASON_DESTROYED);
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
    FakeFault fault = next_fault((FakeHv *)hv);
    g_autofree char *uuid = element_of((FakeHv *)hv, "<uuid>", "</uuid>");
    g_autofree char *other = read_part((FakeHv *)hv, "other.xml");
    GPtrArray *uuids;

    if (!before(fault, error) || !after(fault, error))
        return NULL;
    uuids = g_ptr_array_new_with_free_func(g_free);
    if (uuid)
        g_ptr_array_add(uuids, g_steal_pointer(&uuid));
    if (other)
        g_ptr_array_add(uuids, g_strdup(FAKE_OTHER_UUID));
    return uuids;
}

/* One snapshot, when there is kept.xml, and a managed save. */
static GPtrArray *do_kept_xml(VrHv *hv, const char *uuid, GError **error)
{
    FakeHv *fake = (FakeHv *)hv;
    GPtrArray *xml;
    char *kept;

    if (!is_there(fake, error))
        return NULL;
    xml = g_ptr_array_new_with_free_func(g_free);
    kept = read_part(fake, "kept.xml");
    if (kept)
        g_ptr_array_add(xml, kept);
    kept = fake->managed_save ? read_part(fake, "saved.xml") : NULL;
    if (kept)
        g_ptr_array_add(xml, kept);
    return xml;
}

static gboolean do_lookup(VrHv *hv, const char *name, char uuid[VR_UUID_LENGTH + 1], GError **error)
{
    g_autofree char *own_name = name_of((FakeHv *)hv);
    g_autofree char *own_uuid = element_of((FakeHv *)hv, "<uuid>", "</uuid>");

    if (g_strcmp0(name, own_name) != 0 && g_strcmp0(name, own_uuid) != 0) {
        g_set_error(error, VR_ERROR, VR_ERROR_NOT_FOUND, "no domain '%s'", name);
        return FALSE;
    }
    g_strlcpy(uuid, own_uuid, VR_UUID_LENGTH + 1);
    return TRUE;
}

static void fill(FakeHv *fake, const char *uuid, VrDomainInfo *info)
{
    Power power = read_power(fake);

    g_strlcpy(info->uuid, uuid, sizeof(info->uuid));
    info->name = name_of(fake);
    info->state = power.state;
    info->reason = power.reason;
    info->id = power.state == VR_DOMAIN_OFF ? -1 : power.id;
    info->persistent = has_part(fake, "inactive.xml");
    info->autostart = fake->autostart;
    info->managed_save = fake->managed_save;
    info->snapshots = fake->snapshots;
    info->checkpoints = fake->checkpoints;
}

static gboolean do_job(VrHv *hv, const char *uuid, char **job, GError **error)
{
    *job = g_strdup(((FakeHv *)hv)->job);
    return TRUE;
}

static gboolean do_info(VrHv *hv, const char *uuid, VrDomainInfo *info, GError **error)
{
    FakeHv *fake = (FakeHv *)hv;
    FakeFault fault = next_fault(fake);

    memset(info, 0, sizeof(*info));
    if (!before(fault, error))
        return FALSE;
    if (fake->stopping > 0 && --fake->stopping == 0)
        fake_hv_end(fake, stop_reason(fake));
    if (fake->off_at_ms > 0 && vr_clock_now_ms() >= fake->off_at_ms) {
        fake_hv_end(fake, stop_reason(fake));
        fake->off_at_ms = 0;
    }
    if (!is_there(fake, error))
        return FALSE;
    fill(fake, uuid, info);
    if (after(fault, error))
        return TRUE;
    vr_domain_info_clear(info);
    return FALSE;
}

/* Part `name`, or `instead` where it is not there (NULL: nothing). */
static char *xml_part(VrHv *hv, const char *name, const char *instead, GError **error)
{
    FakeHv *fake = (FakeHv *)hv;
    FakeFault fault = next_fault(fake);
    g_autofree char *xml = NULL;

    if (!before(fault, error) || !is_there(fake, error))
        return NULL;
    xml = read_part(fake, name);
    if (!xml && instead)
        xml = read_part(fake, instead);
    if (!xml)
        g_set_error(error, VR_ERROR, VR_ERROR_HYPERVISOR, "the domain is off");
    return xml && after(fault, error) ? g_steal_pointer(&xml) : NULL;
}

static char *do_inactive_xml(VrHv *hv, const char *uuid, GError **error)
{
    if (g_str_equal(uuid, FAKE_OTHER_UUID))
        return xml_part(hv, "other.xml", NULL, error);
    return xml_part(hv, "inactive.xml", "live.xml", error); /* a transient domain's */
}

static char *do_live_xml(VrHv *hv, const char *uuid, GError **error)
{
    return xml_part(hv, g_str_equal(uuid, FAKE_OTHER_UUID) ? "none" : "live.xml", NULL, error);
}

/* As libvirt hides them. */
static char *do_public_xml(VrHv *hv, const char *uuid, GError **error)
{
    g_autoptr(GRegex) secret = g_regex_new("passwd=('|\")[^'\"]*", 0, 0, NULL);
    g_autofree char *xml = do_inactive_xml(hv, uuid, error);

    return xml ? g_regex_replace(secret, xml, -1, 0, "passwd=\\1*****", 0, error) : NULL;
}

static FakeHv *other(FakeHv *fake, guint i)
{
    FakeHv *one = fake->others && i < fake->others->len ? g_ptr_array_index(fake->others, i) : NULL;

    return one != fake ? one : NULL;
}

/* A domain keeps its name, and no two have the same. */
static gboolean is_named_so(FakeHv *fake, const char *xml, GError **error)
{
    g_autofree char *name = name_of(fake);
    g_autoptr(VrDomainDef) def = vr_domain_def_parse(xml, error);
    gboolean taken = def && name && g_strcmp0(name, def->name) != 0;

    for (guint i = 0; def && fake->others && i < fake->others->len; i++) {
        g_autofree char *theirs = other(fake, i) ? name_of(other(fake, i)) : NULL;
        taken = taken || g_strcmp0(theirs, def->name) == 0;
    }
    if (taken)
        g_set_error(error, VR_ERROR, VR_ERROR_HYPERVISOR,
                    "the domain has another name than '%s', or another domain has it", def->name);
    return def && !taken;
}

static gboolean do_define(VrHv *hv, const char *uuid, const char *xml, GError **error)
{
    FakeHv *fake = (FakeHv *)hv;
    FakeFault fault = next_fault(fake);

    if (fault == FAKE_LATE)
        fake_hv_late(fake, 'd', xml, fake->late_by);
    if (!before(fault, error) || !fake_hv_is_of(xml, uuid, error) || !fake_qemu_is_valid(xml, error) ||
        !is_named_so(fake, xml, error))
        return FALSE;
    fake->defines++;
    note_effect(fake, 'd');
    return write_definition(fake, xml, error) && after(fault, error);
}

static gboolean has_disk(FakeHv *fake, const char *path)
{
    g_autofree char *xml = read_part(fake, "live.xml");
    g_autoptr(VrDomainDef) def = xml ? vr_domain_def_parse(xml, NULL) : NULL;

    for (guint i = 0; def && i < def->disks->len; i++)
        if (g_strcmp0(((VrDomainDisk *)def->disks->pdata[i])->source, path) == 0)
            return TRUE;
    return FALSE;
}

/* By the QEMU of another domain, which has it open for writing. */
static gboolean is_locked(const char *path, void *data)
{
    FakeHv *fake = data;

    for (guint i = 0; fake->others && i < fake->others->len; i++)
        if (other(fake, i) && has_disk(other(fake, i), path))
            return TRUE;
    return FALSE;
}

static gboolean qemu_starts(FakeHv *fake, GError **error)
{
    g_autofree char *path = fake_hv_os_path(fake, FALSE);
    g_autofree char *xml = read_part(fake, "inactive.xml");

    if (!fake_qemu_opens(xml, is_locked, fake, error))
        return FALSE;
    if (fake->fail_new_disk && strstr(path, "/disks/")) {
        g_set_error(error, VR_ERROR, VR_ERROR_HYPERVISOR, "QEMU does not start");
        return FALSE;
    }
    if (run(fake))
        return TRUE;
    g_set_error(error, VR_ERROR, VR_ERROR_HYPERVISOR, "QEMU cannot open the NVRAM");
    return FALSE;
}

static gboolean may_start(FakeHv *fake, GError **error)
{
    if (!is_there(fake, error))
        return FALSE;
    if (fake->managed_save)
        g_set_error(error, VR_ERROR, VR_ERROR_REFUSED, "the domain has a managed save");
    else if (fake_hv_state(fake) != VR_DOMAIN_OFF)
        g_set_error(error, VR_ERROR, VR_ERROR_HYPERVISOR, "the domain is running already");
    else
        return TRUE;
    return FALSE;
}

static gboolean do_start(VrHv *hv, const char *uuid, GError **error)
{
    FakeHv *fake = (FakeHv *)hv;
    FakeFault fault = next_fault(fake);

    if (fault == FAKE_LATE)
        fake_hv_late(fake, 's', NULL, fake->late_by);
    if (!before(fault, error) || !may_start(fake, error))
        return FALSE;
    if (!qemu_starts(fake, error)) {
        set_off(fake, VR_REASON_FAILED);
        return FALSE;
    }
    note_effect(fake, 's');
    if (fake->ends_at_once)
        fake_hv_end(fake, stop_reason(fake));
    return after(fault, error);
}

static gboolean do_shutdown(VrHv *hv, const char *uuid, VrShutdownMode mode, GError **error)
{
    FakeHv *fake = (FakeHv *)hv;
    FakeFault fault = next_fault(fake);

    if (!before(fault, error) || !is_running(fake, FALSE, error))
        return FALSE;
    fake->shutdowns++;
    if (mode == VR_SHUTDOWN_AGENT) {
        g_set_error(error, VR_ERROR, VR_ERROR_AGENT, "the scripted guest has no agent");
        return FALSE;
    }
    if (fake->stops_after > 0)
        fake->stopping = fake->stops_after;
    else if (!fake->deaf)
        fake_hv_end(fake, stop_reason(fake));
    return after(fault, error);
}

static gboolean do_destroy(VrHv *hv, const char *uuid, GError **error)
{
    FakeHv *fake = (FakeHv *)hv;
    FakeFault fault = next_fault(fake);

    if (fault == FAKE_LATE)
        fake_hv_late(fake, 'x', NULL, fake->late_by);
    if (!before(fault, error) || !is_running(fake, TRUE, error))
        return FALSE;
    note_effect(fake, 'x');
    set_off(fake, VR_REASON_DESTROYED);
    return after(fault, error);
}

static void do_wait_change(VrHv *hv, const char *uuid, gint64 deadline_ms)
{
    vr_clock_sleep_until(MIN(deadline_ms, vr_clock_now_ms() + 5));
}

static char *do_agent(VrHv *hv, const char *uuid, const char *command, int timeout_s, GError **error)
{
    FakeHv *fake = (FakeHv *)hv;

    if (!is_running(fake, FALSE, error))
        return NULL;
    if (fake->agent)
        return fake->agent(command, fake->agent_data);
    g_set_error(error, VR_ERROR, VR_ERROR_AGENT, "the scripted guest has no agent");
    return NULL;
}

static void do_close(VrHv *hv)
{
}

static GPtrArray *do_leases(VrHv *hv, const char *uuid, GError **error)
{
    return is_running((FakeHv *)hv, TRUE, error) ? g_ptr_array_new_with_free_func(g_free) : NULL;
}

static char *do_nvram(VrHv *hv, const char *uuid, const char *xml, GError **error)
{
    FakeHv *fake = (FakeHv *)hv;
    FakeFault fault = next_fault(fake);

    g_autofree char *configured = xml ? NULL : read_part(fake, "inactive.xml");
    char *path = NULL;

    if (!before(fault, error) || !is_there(fake, error) || !after(fault, error))
        return NULL;
    path = nvram_of(fake, xml ? xml : configured);
    if (!path)
        g_set_error_literal(error, VR_ERROR, VR_ERROR_HYPERVISOR, "the domain has no NVRAM");
    return path;
}

/* --- what a guest that leaves needs ------------------------------------------------------------------ */

/* The disk takes what lies below it, as at the end of QEMU's job; the inactive XML is libvirt's to mend, and may be late. */
static void end_pull(FakeHv *fake)
{
    g_autofree char *path = fake_hv_os_path(fake, TRUE);
    g_autofree char *live = read_part(fake, "live.xml");
    g_autofree char *alone = NULL;
    const char *const argv[] = {"qemu-img", "rebase", "-q", "-U", "-f", "qcow2", "-b", "", path, NULL};
    const VrChainLink link = {path, "qcow2"};
    g_auto(VrDomainRecordRead) record = {0};

    if (fake->pull_fails || !path)
        return;
    g_assert_true(vr_child_run(argv, NULL, NULL, NULL));
    g_assert_true(vr_domain_xml_record(live, &record));
    alone = vr_domain_xml_with_chain(
        live, "vda", &link, 1,
        &(VrDomainRecord){
            .set = record.set, .generation = record.generation, .image = record.image, .version = record.version},
        NULL);
    write_part(fake, "live.xml", alone);
}

static gboolean do_block_pull(VrHv *hv, const char *uuid, const char *target, GError **error)
{
    FakeHv *fake = (FakeHv *)hv;
    FakeFault fault = next_fault(fake);
    g_autofree char *left = g_strdup_printf("%d", FAKE_PULL_LOOKS);

    if (!before(fault, error))
        return FALSE;
    if (fake_hv_state(fake) == VR_DOMAIN_OFF) {
        g_set_error(error, VR_ERROR, VR_ERROR_HYPERVISOR, "the domain is off");
        return FALSE;
    }
    note_effect(fake, 'p');
    write_part(fake, "pull", left);
    return after(fault, error);
}

static gboolean do_block_job(VrHv *hv, const char *uuid, const char *target, VrBlockJob *job, GError **error)
{
    FakeHv *fake = (FakeHv *)hv;
    FakeFault fault = next_fault(fake);
    g_autofree char *left = read_part(fake, "pull");

    *job = (VrBlockJob){.active = left != NULL, .pull = TRUE, .done = FAKE_PULL_LOOKS, .total = FAKE_PULL_LOOKS};
    if (!before(fault, error))
        return FALSE;
    if (left && atoi(left) > 0) {
        g_autofree char *less = g_strdup_printf("%d", atoi(left) - 1);
        write_part(fake, "pull", less);
    } else if (left) {
        end_pull(fake);
        write_part(fake, "pull", NULL);
    }
    return after(fault, error);
}

static gboolean do_drop_live_record(VrHv *hv, const char *uuid, GError **error)
{
    FakeHv *fake = (FakeHv *)hv;
    FakeFault fault = next_fault(fake);
    g_autofree char *live = read_part(fake, "live.xml");
    g_autofree char *without = live ? vr_domain_xml_released(live, "vda", FALSE, NULL) : NULL;

    if (!before(fault, error))
        return FALSE;
    if (!without) {
        g_set_error(error, VR_ERROR, VR_ERROR_HYPERVISOR, "the domain is off");
        return FALSE;
    }
    note_effect(fake, 'm');
    write_part(fake, "live.xml", without);
    return after(fault, error);
}

static const VrHvOps ops = {.list = do_list,
                            .lookup = do_lookup,
                            .info = do_info,
                            .job = do_job,
                            .inactive_xml = do_inactive_xml,
                            .live_xml = do_live_xml,
                            .public_xml = do_public_xml,
                            .kept_xml = do_kept_xml,
                            .define = do_define,
                            .start = do_start,
                            .shutdown = do_shutdown,
                            .destroy = do_destroy,
                            .wait_change = do_wait_change,
                            .agent = do_agent,
                            .leases = do_leases,
                            .nvram = do_nvram,
                            .block_pull = do_block_pull,
                            .block_job = do_block_job,
                            .drop_live_record = do_drop_live_record,
                            .console = fake_console,
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
    set_off(fake, VR_REASON_OTHER);
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
