/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "hv/fstab.h"

#include "base/clock.h"
#include "base/error.h"
#include "hv/guest_agent.h"

#include <mntent.h>
#include <stdio.h>
#include <string.h>

#define MAX_BYTES (64 * 1024)
#define MAX_LINE 4096
#define MAX_SHOWN 6
#define MAX_NAME 64

typedef FILE Stream;
G_DEFINE_AUTOPTR_CLEANUP_FUNC(Stream, fclose)

static gboolean is_device_name(const char *source)
{
    static const char *const letters[] = {"/dev/sd", "/dev/hd", "/dev/vd", "/dev/xvd"};

    for (gsize i = 0; i < G_N_ELEMENTS(letters); i++)
        if (g_str_has_prefix(source, letters[i]))
            return g_ascii_islower(source[strlen(letters[i])]);
    return g_str_has_prefix(source, "/dev/nvme") && g_ascii_isdigit(source[strlen("/dev/nvme")]);
}

static void add(GString *text, const struct mntent *entry)
{
    g_autofree char *source = vr_printable(entry->mnt_fsname, (gssize)strnlen(entry->mnt_fsname, MAX_NAME));
    g_autofree char *place = vr_printable(entry->mnt_dir, (gssize)strnlen(entry->mnt_dir, MAX_NAME));

    g_string_append_printf(text, "%s%s on %s", text->len > 0 ? ", " : "", source, place);
}

char *vr_fstab_devices(const char *text, gsize length)
{
    g_autoptr(Stream) stream = length > 0 ? fmemopen((void *)text, length, "r") : NULL;
    g_autoptr(GString) found = g_string_new(NULL);
    struct mntent entry;
    char line[MAX_LINE];
    guint n = 0;

    while (stream != NULL && getmntent_r(stream, &entry, line, sizeof line) != NULL) {
        if (!is_device_name(entry.mnt_fsname))
            continue;
        if (n++ < MAX_SHOWN)
            add(found, &entry);
    }
    if (n > MAX_SHOWN)
        g_string_append_printf(found, " and %u more", n - MAX_SHOWN);
    return n > 0 ? g_string_free(g_steal_pointer(&found), FALSE) : NULL;
}

char *vr_agent_fstab_devices(VrHv *hv, const char *uuid, int timeout_s, GError **error)
{
    gsize length;
    gint64 deadline = vr_clock_now_ms() + timeout_s * 1000;
    g_autofree char *text = vr_agent_read_file(hv, uuid, "/etc/fstab", MAX_BYTES, deadline, &length, error);

    return text != NULL ? vr_fstab_devices(text, length) : NULL;
}
