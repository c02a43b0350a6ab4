/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * A disk with Windows on it gets one file, the answer file of its setup: whatever Windows is to become, that is where setup takes it from when the disk
 * boots for the first time. %WINDIR%\Panther\unattend.xml: Microsoft, "Windows Setup Automation Overview", "Replace the answer file in an offline image" and
 * "Implicit answer file search order", where it is third; before it come a registry value and Panther\Unattend.
 *
 * ntfs-3g writes to NTFS. What was not shut down wholly it mounts read-only, or makes clean by throwing away what Windows had not written yet: neither is
 * wanted. It gives new files to everyone; with a mapping of users, of whatever user, it makes an access control list out of mode and owner.
 */
#include "base/error.h"
#include "disk/little_endian.h"
#include "disk/personalize_guest.h"

#include <string.h>

#define SECTOR 512
#define MAX_RECORD 4096
#define VOLUME_RECORD 3     /* $Volume */
#define VOLUME_INFO 0x70    /* $VOLUME_INFORMATION */
#define VOLUME_DIRTY 0x0001 /* to be checked at the next boot */
#define END_OF_ATTRIBUTES 0xffffffffu
#define USERS "/" VR_WINDOWS_USERS

typedef guestfs_h Guestfs;

static gboolean refuse(GError **error, const char *text)
{
    g_set_error_literal(error, VR_ERROR, VR_ERROR_INVALID, text);
    return FALSE;
}

/* ---- what it is ---- */

/* Names are found whatever their case; the last one need not be there. NULL: a directory of it is not. */
static char *true_path(const VrGuest *guest, const char *path)
{
    return guestfs_case_sensitive_path(guest->g, path);
}

static gboolean is_kind(const VrGuest *guest, const char *path, VrGuestKind wanted)
{
    VrGuestKind kind;
    return path && vr_guest_kind(guest, path, &kind, NULL) && kind == wanted;
}

char *vr_windows_find(const VrGuest *guest)
{
    g_autofree char *system = true_path(guest, "/Windows/System32");
    g_autofree char *programs = true_path(guest, "/Program Files");
    gboolean found = is_kind(guest, system, VR_GUEST_DIR) && is_kind(guest, programs, VR_GUEST_DIR);
    return found ? g_path_get_dirname(system) : NULL;
}

/* ---- may it be written to ---- */

/* Of a record of the master file table: fs/ntfs3/ntfs.h of Linux, struct MFT_REC, ATTRIB and VOLUME_INFO. */
static gboolean is_dirty(const guint8 *record, gsize length)
{
    gsize at = length >= 22 ? vr_le16(record + 20) : length;
    while (at + 24 <= length && vr_le32(record + at) != END_OF_ATTRIBUTES) {
        gsize flags = at + vr_le16(record + at + 20) + 10;
        if (vr_le32(record + at) == VOLUME_INFO)
            return flags + 2 <= length && (vr_le16(record + flags) & VOLUME_DIRTY);
        at += MAX(vr_le32(record + at + 4), 24);
    }
    return FALSE;
}

/* struct NTFS_BOOT. Where a number is beyond what ntfs-3g takes, that has refused it before. */
static gboolean needs_check(const VrGuest *guest, const char *device, gboolean *dirty, GError **error)
{
    size_t got = 0;
    g_autofree char *boot = guestfs_pread_device(guest->g, device, SECTOR, 0, &got);
    if (!boot || got < SECTOR)
        return vr_guest_failed(guest->g, error, device);
    guint8 sectors = (guint8)boot[13];
    gint8 size = (gint8)boot[64];
    guint64 cluster = (guint64)vr_le16(boot + 11) * (sectors > 128 ? 1u << (256 - sectors) % 32 : sectors);
    guint64 record = size > 0 ? (guint64)size * cluster : 1u << -size % 32;
    if (record > MAX_RECORD)
        return refuse(error, "its NTFS has records of more than 4096 bytes");
    gint64 at = (gint64)((vr_le64(boot + 48) * cluster + VOLUME_RECORD * record) & G_MAXINT64);
    g_autofree char *bytes = guestfs_pread_device(guest->g, device, (int)record, at, &got);
    if (!bytes)
        return vr_guest_failed(guest->g, error, device);
    *dirty = is_dirty((const guint8 *)bytes, got);
    return TRUE;
}

gboolean vr_windows_is_whole(const VrGuest *guest, const char *device, GError **error)
{
    enum { HIBERNATED = 14, UNCLEAN = 15 }; /* ntfs-3g.probe(8) */
    gboolean dirty = FALSE;
    int said = guestfs_ntfs_3g_probe(guest->g, 1, device);

    if (said < 0)
        return vr_guest_failed(guest->g, error, device);
    if (said == HIBERNATED)
        return refuse(error,
                      "its Windows is hibernated, which a shut-down with fast start-up is too: in the image, run "
                      "'powercfg /h off' and shut it down");
    if (said == 0 && !needs_check(guest, device, &dirty, error))
        return FALSE;
    if (said == UNCLEAN || dirty)
        return refuse(error, "its NTFS was not shut down cleanly, or waits for chkdsk: boot the image once and shut it "
                             "down");
    if (said == 0)
        return TRUE;
    g_set_error(error, VR_ERROR, VR_ERROR_INVALID, "its NTFS cannot be written to (ntfs-3g.probe: %d)", said);
    return FALSE;
}

gboolean vr_windows_map_users(const VrGuest *guest, GError **error)
{
    static const char map[] =
        "::S-1-5-21-1-2-3-10000\n"; /* of nobody that writes here: root is SYSTEM and the administrators */
    return vr_guest_write(guest, USERS, map, sizeof map - 1, 0600, 0, 0, FALSE, error);
}

/* ---- what is written ---- */

static const char *asked_besides(const VrPersonal *personal)
{
    const struct {
        gboolean asked;
        const char *what;
    } all[] = {{personal->hostname != NULL, "a host name"},
               {personal->machine_id != NULL, "a machine-id"},
               {personal->timezone != NULL, "a timezone"},
               {personal->host_keys->len > 0, "host keys"},
               {personal->files->len > 0, "files"},
               {personal->network->len > 0, "network files"},
               {personal->authorized->len > 0, "authorised keys"},
               {personal->first_boot != NULL, "a first-boot script"}};
    for (gsize i = 0; i < G_N_ELEMENTS(all); i++)
        if (all[i].asked)
            return all[i].what;
    return NULL;
}

static gboolean is_first(const VrGuest *guest, GError **error)
{
    static const char *const earlier[] = {"Panther/Unattend/Unattend.xml", "Panther/Unattend/Autounattend.xml"};
    for (gsize i = 0; i < G_N_ELEMENTS(earlier); i++) {
        g_autofree char *path = g_build_filename(guest->windows, earlier[i], NULL);
        g_autofree char *found = true_path(guest, path);
        if (found && !is_kind(guest, found, VR_GUEST_ABSENT)) {
            g_set_error(error, VR_ERROR, VR_ERROR_INVALID,
                        "%s is there, which Windows setup takes instead of ours: remove it from the image", found);
            return FALSE;
        }
    }
    return TRUE;
}

gboolean vr_windows_apply(VrGuest *guest, const VrPersonal *personal, GError **error)
{
    const char *besides = asked_besides(personal);
    gsize length;
    if (besides) {
        g_set_error(
            error, VR_ERROR, VR_ERROR_INVALID,
            "there is Windows on it, and %s cannot be written there: its answer file (unattend) says such things",
            besides);
        return FALSE;
    }
    if (!personal->unattend)
        return TRUE;
    const void *data = g_bytes_get_data(personal->unattend, &length);
    g_autofree char *path = g_build_filename(guest->windows, "Panther/unattend.xml", NULL);
    g_autofree char *found = true_path(guest, path);
    return is_first(guest, error) && vr_guest_write(guest, found ? found : path, data, length, 0600, 0, 0, TRUE, error);
}
