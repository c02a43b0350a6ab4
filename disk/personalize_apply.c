/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * Each step makes whole files, so that all of it can be done twice. Where files lie: hostname(5), machine-id(5), localtime(5), hosts(5), sshd(8),
 * systemd.unit(5); /.autorelabel: selinux(8) of the guests that have it. Relabelling offline would need the guest's policy compiled into contexts by
 * tools that an appliance of Debian lacks; the guest has them, so it does it itself at its first boot.
 */
#include "base/error.h"
#include "disk/personalize_guest.h"
#include "disk/personalize_private.h"

#include <string.h>

#define MAX_HOSTS (1u << 20)
#define MAX_CONFIG (64u << 10)
#define CLOUD_CONFIG "/etc/cloud/cloud.cfg.d"
#define FIRST_BOOT "/etc/virt-reimage/first-boot"
#define UNIT "virt-reimage-first-boot.service"
#define INIT_SCRIPT "virt-reimage-first-boot"

/* Away from its place before it runs: once means once, also when it restarts the guest. */
static const char unit[] = "[Unit]\n"
                           "Description=First boot script, put here by virt-reimage\n"
                           "ConditionPathExists=" FIRST_BOOT "\n"
                           "Wants=network-online.target\n"
                           "After=network-online.target\n"
                           "\n"
                           "[Service]\n"
                           "Type=oneshot\n"
                           "TimeoutStartSec=infinity\n"
                           "ExecStartPre=/bin/mv -f " FIRST_BOOT " " FIRST_BOOT ".begun\n"
                           "ExecStart=" FIRST_BOOT ".begun\n"
                           "ExecStopPost=/bin/rm -f " FIRST_BOOT ".begun\n"
                           "\n"
                           "[Install]\n"
                           "WantedBy=multi-user.target\n";

static const char init_script[] = "#!/bin/sh\n"
                                  "### BEGIN INIT INFO\n"
                                  "# Provides:          " INIT_SCRIPT "\n"
                                  "# Required-Start:    $remote_fs $network\n"
                                  "# Required-Stop:\n"
                                  "# Default-Start:     2 3 4 5\n"
                                  "# Default-Stop:\n"
                                  "# Short-Description: First boot script, put here by virt-reimage\n"
                                  "### END INIT INFO\n"
                                  "[ \"$1\" = start ] && [ -f " FIRST_BOOT " ] || exit 0\n"
                                  "mv -f " FIRST_BOOT " " FIRST_BOOT ".begun\n" FIRST_BOOT ".begun\n"
                                  "status=$?\n"
                                  "rm -f " FIRST_BOOT ".begun\n"
                                  "exit $status\n";

static gboolean write_text(const VrGuest *guest, const char *path, const char *text, guint mode, GError **error)
{
    return vr_guest_write(guest, path, text, strlen(text), mode, 0, 0, FALSE, error);
}

static gboolean owner_of(VrGuest *guest, const char *path, const VrGuestFile *file, guint *uid, guint *gid,
                         GError **error)
{
    if (vr_guest_owner(guest, file->owner, uid, gid, error))
        return TRUE;
    g_prefix_error(error, "%s: ", path);
    return FALSE;
}

static gboolean write_bytes(VrGuest *guest, const char *path, const VrGuestFile *file, guint mode, gboolean make,
                            GError **error)
{
    gsize length;
    guint uid, gid;
    const void *data = g_bytes_get_data(file->data, &length);
    return owner_of(guest, path, file, &uid, &gid, error) &&
           vr_guest_write(guest, path, data, length, mode, uid, gid, make, error);
}

/* ---- name ---- */

/* The line with which Debian gives a host its own name; others have none, and none is added. */
static char *rename_in_hosts(const char *text, const char *name)
{
    g_auto(GStrv) lines = g_strsplit(text, "\n", -1);
    g_autofree char *first = g_strndup(name, strcspn(name, "."));
    for (char **line = lines; *line; line++)
        if (g_str_has_prefix(*line, "127.0.1.1 ") || g_str_has_prefix(*line, "127.0.1.1\t")) {
            g_free(*line);
            *line = strcmp(first, name) == 0 ? g_strdup_printf("127.0.1.1\t%s", name)
                                             : g_strdup_printf("127.0.1.1\t%s %s", name, first);
        }
    return g_strjoinv("\n", lines);
}

static gboolean set_hostname(VrGuest *guest, const VrPersonal *personal, GError **error)
{
    g_autoptr(GError) local = NULL;
    if (!personal->hostname)
        return TRUE;
    g_autofree char *line = g_strconcat(personal->hostname, "\n", NULL);
    g_autofree char *hosts = vr_guest_read(guest, "/etc/hosts", MAX_HOSTS, &local);
    if (local) {
        g_propagate_error(error, g_steal_pointer(&local));
        return FALSE;
    }
    g_autofree char *changed = hosts ? rename_in_hosts(hosts, personal->hostname) : NULL;
    return write_text(guest, "/etc/hostname", line, 0644, error) &&
           (!changed || strcmp(changed, hosts) == 0 || write_text(guest, "/etc/hosts", changed, 0644, error));
}

/* D-Bus has a copy on some systems; most have a link to /etc/machine-id there. */
static gboolean set_machine_id(VrGuest *guest, const VrPersonal *personal, GError **error)
{
    static const char dbus[] = "/var/lib/dbus/machine-id";
    VrGuestKind kind = VR_GUEST_ABSENT;
    if (!personal->machine_id)
        return TRUE;
    g_autofree char *line = g_strconcat(personal->machine_id, *personal->machine_id ? "\n" : "", NULL);
    if (!write_text(guest, "/etc/machine-id", line, 0444, error) || !vr_guest_seek(guest, dbus, &kind, error))
        return FALSE;
    if (kind != VR_GUEST_FILE)
        return TRUE;
    if (*line)
        return write_text(guest, dbus, line, 0444, error);
    return guestfs_rm(guest->g, dbus) == 0 || vr_guest_failed(guest->g, error, dbus);
}

static gboolean set_timezone(VrGuest *guest, const VrPersonal *personal, GError **error)
{
    VrGuestKind kind;
    if (!personal->timezone)
        return TRUE;
    g_autofree char *zone = g_strconcat("/usr/share/zoneinfo/", personal->timezone, NULL);
    g_autofree char *target = g_strconcat("..", zone, NULL);
    g_autofree char *line = g_strconcat(personal->timezone, "\n", NULL);
    if (!vr_guest_enter(guest, zone, FALSE, error) || !vr_guest_kind(guest, zone, &kind, error))
        return FALSE;
    if (kind != VR_GUEST_FILE && kind != VR_GUEST_LINK) {
        g_set_error(error, VR_ERROR, VR_ERROR_NOT_FOUND, "%s is not there: the guest does not know this timezone",
                    zone);
        return FALSE;
    }
    return vr_guest_link(guest, "/etc/localtime", target, 0, 0, error) &&
           vr_guest_kind(guest, "/etc/timezone", &kind, error) &&
           (kind == VR_GUEST_ABSENT || write_text(guest, "/etc/timezone", line, 0644, error));
}

/* ---- ssh ---- */

/* cloud-init deletes host keys at the first boot of an instance-id that is new to it: its module ssh, with ssh_deletekeys: true unless told otherwise. */
static gboolean keep_host_keys(const VrGuest *guest, GError **error)
{
    static const char config[] =
        "# Written by virt-reimage: this guest was given its host keys.\nssh_deletekeys: false\n";
    VrGuestKind kind = VR_GUEST_ABSENT;
    if (!vr_guest_seek(guest, CLOUD_CONFIG, &kind, error))
        return FALSE;
    return kind == VR_GUEST_ABSENT || write_text(guest, CLOUD_CONFIG "/99-virt-reimage.cfg", config, 0644, error);
}

static gboolean set_host_keys(VrGuest *guest, const VrPersonal *personal, GError **error)
{
    for (guint i = 0; i < personal->host_keys->len; i++) {
        const VrGuestFile *file = personal->host_keys->pdata[i];
        g_autofree char *path = g_build_filename("/etc/ssh", file->path, NULL);
        if (!write_bytes(guest, path, file, g_str_has_suffix(path, ".pub") ? 0644 : 0600, FALSE, error))
            return FALSE;
    }
    return personal->host_keys->len == 0 || keep_host_keys(guest, error);
}

static gboolean has_line(const char *text, const char *line)
{
    g_auto(GStrv) lines = g_strsplit(text, "\n", -1);
    return g_strv_contains((const char *const *)lines, line);
}

static char *with_keys(const char *text, const VrPersonalKeys *keys)
{
    GString *all = g_string_new(text);
    if (all->len > 0 && all->str[all->len - 1] != '\n')
        g_string_append_c(all, '\n');
    for (guint i = 0; i < keys->keys->len; i++)
        if (!has_line(all->str, keys->keys->pdata[i]))
            g_string_append_printf(all, "%s\n", (const char *)keys->keys->pdata[i]);
    return g_string_free(all, FALSE);
}

static gboolean make_ssh_dir(const VrGuest *guest, const char *dir, guint uid, guint gid, GError **error)
{
    VrGuestKind kind;
    if (!vr_guest_enter(guest, dir, FALSE, error) || !vr_guest_kind(guest, dir, &kind, error))
        return FALSE;
    if (kind != VR_GUEST_ABSENT)
        return TRUE; /* what it is, the file in it will show */
    return (guestfs_mkdir_mode(guest->g, dir, 0700) == 0 && guestfs_chown(guest->g, (int)uid, (int)gid, dir) == 0) ||
           vr_guest_failed(guest->g, error, dir);
}

static gboolean add_keys(VrGuest *guest, const VrPersonalKeys *keys, GError **error)
{
    guint uid, gid;
    g_autofree char *home = NULL;
    g_autoptr(GError) local = NULL;

    if (!vr_guest_user(guest, keys->user, &uid, &gid, &home, error))
        return FALSE;
    g_autofree char *dir = g_build_filename(home, ".ssh", NULL);
    g_autofree char *path = g_build_filename(dir, "authorized_keys", NULL);
    if (!vr_personal_path_check(path, error) || !make_ssh_dir(guest, dir, uid, gid, error))
        return FALSE;
    g_autofree char *text = vr_guest_read(guest, path, MAX_HOSTS, &local);
    if (local) {
        g_propagate_error(error, g_steal_pointer(&local));
        return FALSE;
    }
    g_autofree char *all = with_keys(text ? text : "", keys);
    return vr_guest_write(guest, path, all, strlen(all), 0600, uid, gid, FALSE, error);
}

static gboolean set_authorized(VrGuest *guest, const VrPersonal *personal, GError **error)
{
    for (guint i = 0; i < personal->authorized->len; i++)
        if (!add_keys(guest, personal->authorized->pdata[i], error))
            return FALSE;
    return TRUE;
}

/* ---- files ---- */

/* A directory that is not there means another program sets up this guest's network. */
static gboolean set_network(VrGuest *guest, const VrPersonal *personal, GError **error)
{
    for (guint i = 0; i < personal->network->len; i++) {
        const VrGuestFile *file = personal->network->pdata[i];
        guint mode = g_str_has_prefix(file->path, "/etc/systemd/") ? 0644 : 0600;
        if (!write_bytes(guest, file->path, file, mode, FALSE, error))
            return FALSE;
    }
    return TRUE;
}

static gboolean make_link(const VrGuest *guest, const VrGuestFile *file, guint uid, guint gid, GError **error)
{
    gsize length;
    const char *bytes = g_bytes_get_data(file->data, &length);
    g_autofree char *target = g_strndup(bytes, length);
    return vr_guest_link(guest, file->path, target, uid, gid, error);
}

static gboolean set_file(VrGuest *guest, const VrGuestFile *file, GError **error)
{
    guint uid, gid;
    if (file->kind == VR_GUEST_FILE_REGULAR)
        return write_bytes(guest, file->path, file, file->mode, TRUE, error);
    if (!owner_of(guest, file->path, file, &uid, &gid, error))
        return FALSE;
    return file->kind == VR_GUEST_FILE_DIRECTORY ? vr_guest_directory(guest, file->path, file->mode, uid, gid, error)
                                                 : make_link(guest, file, uid, gid, error);
}

static gboolean set_files(VrGuest *guest, const VrPersonal *personal, GError **error)
{
    for (guint i = 0; i < personal->files->len; i++)
        if (!set_file(guest, personal->files->pdata[i], error))
            return FALSE;
    return TRUE;
}

/* ---- first boot ---- */

static gboolean is_there(const VrGuest *guest, const char *path)
{
    VrGuestKind kind;
    return vr_guest_kind(guest, path, &kind, NULL) && kind != VR_GUEST_ABSENT;
}

static gboolean start_by_systemd(const VrGuest *guest, GError **error)
{
    return vr_guest_write(guest, "/etc/systemd/system/" UNIT, unit, strlen(unit), 0644, 0, 0, TRUE, error) &&
           vr_guest_link(guest, "/etc/systemd/system/multi-user.target.wants/" UNIT, "../" UNIT, 0, 0, error);
}

static gboolean start_by_rc(const VrGuest *guest, GError **error)
{
    if (!write_text(guest, "/etc/init.d/" INIT_SCRIPT, init_script, 0755, error))
        return FALSE;
    for (char level = '2'; level <= '5'; level++) {
        char path[] = "/etc/rc0.d/S99" INIT_SCRIPT;
        path[strlen("/etc/rc")] = level;
        if (!vr_guest_link(guest, path, "../init.d/" INIT_SCRIPT, 0, 0, error))
            return FALSE;
    }
    return TRUE;
}

static gboolean set_first_boot(VrGuest *guest, const VrPersonal *personal, GError **error)
{
    gsize length;
    if (!personal->first_boot)
        return TRUE;
    const void *data = g_bytes_get_data(personal->first_boot, &length);
    gboolean systemd = is_there(guest, "/usr/lib/systemd/systemd") || is_there(guest, "/lib/systemd/systemd");
    if (!systemd && !is_there(guest, "/etc/rc2.d")) {
        g_set_error_literal(error, VR_ERROR, VR_ERROR_INVALID,
                            "the guest has neither systemd nor /etc/rc2.d: nothing would start a first-boot script");
        return FALSE;
    }
    return vr_guest_write(guest, FIRST_BOOT, data, length, 0700, 0, 0, TRUE, error) &&
           (systemd ? start_by_systemd(guest, error) : start_by_rc(guest, error));
}

/* ---- SELinux ---- */

static gboolean is_labelled(const char *config)
{
    g_auto(GStrv) lines = g_strsplit(config, "\n", -1);
    for (char **line = lines; *line; line++) {
        const char *value = g_str_has_prefix(*line, "SELINUX=") ? *line + strlen("SELINUX=") : NULL;
        if (value)
            return g_str_has_prefix(value, "enforcing") || g_str_has_prefix(value, "permissive");
    }
    return FALSE;
}

static gboolean ask_for_relabel(VrGuest *guest, const VrPersonal *personal, GError **error)
{
    g_autoptr(GError) local = NULL;
    if (personal->no_relabel || !is_there(guest, "/etc/selinux/config"))
        return TRUE;
    g_autofree char *config = vr_guest_read(guest, "/etc/selinux/config", MAX_CONFIG, &local);
    if (local) {
        g_propagate_error(error, g_steal_pointer(&local));
        return FALSE;
    }
    return !config || !is_labelled(config) || write_text(guest, "/.autorelabel", "", 0644, error);
}

gboolean vr_guest_apply(VrGuest *guest, const VrPersonal *personal, GError **error)
{
    if (guest->windows)
        return vr_windows_apply(guest, personal, error);
    if (personal->unattend) {
        g_set_error_literal(error, VR_ERROR, VR_ERROR_INVALID,
                            "an answer file (unattend) is for Windows, and there is none on it");
        return FALSE;
    }
    return set_hostname(guest, personal, error) && set_machine_id(guest, personal, error) &&
           set_timezone(guest, personal, error) && set_host_keys(guest, personal, error) &&
           set_network(guest, personal, error) && set_files(guest, personal, error) &&
           /* a file may be an authorized_keys that is carried over, which keys are added to */
           set_authorized(guest, personal, error) && set_first_boot(guest, personal, error) &&
           ask_for_relabel(guest, personal, error);
}
