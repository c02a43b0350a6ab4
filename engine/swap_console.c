/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * The serial console of a guest from its start on a generation until it is healthy, or gone back from: g<n>.console.log.
 *
 * It begins right before the start and is written when the swap ends, once nothing is left to do for the guest; so a process that is killed
 * in between leaves none, and one that goes on with its swap listens from then on. Nothing here fails or holds up a swap: whatever goes wrong is a line of the log
 * itself, or of ours for who debugs. Its first line names the swap, as a later one may bring the guest to the same generation again.
 */
#include "base/clock.h"
#include "base/durable.h"
#include "base/error.h"
#include "base/fd.h"
#include "base/log.h"
#include "engine/console_log.h"
#include "engine/swap_private.h"

#include <fcntl.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/statvfs.h>

#define HEADER_BYTES 1024
#define MOST_BYTES (HEADER_BYTES + VR_CONSOLE_HEAD + VR_CONSOLE_TAIL + HEADER_BYTES)
/* What is left on a disk that is full is for what guests need. */
#define ROOM_BYTES (G_GUINT64_CONSTANT(64) * 1024 * 1024)

/* --- while it boots ---------------------------------------------------------------------------------- */

void vr_swap_console_ready(VrSwap *swap)
{
    g_auto(VrConsoleDevice) device = {0};

    if (swap->capture || !swap->intent_xml)
        return;
    vr_domain_xml_console(swap->intent_xml, &device);
    if (device.kind == VR_CONSOLE_NONE) {
        vr_debug("%s: it has no console that can be read", swap->row->domain);
        return;
    }
    swap->capture = vr_capture_new(swap->engine.hv, swap->row->uuid, &device);
    swap->capture_us = vr_clock_wall_us();
}

void vr_swap_console_begin(VrSwap *swap)
{
    if (swap->capture)
        vr_capture_begin(swap->capture);
}

void vr_swap_listen(VrSwap *swap)
{
    if (!swap->row->was_running || swap->row->state != VR_SWAP_STARTED)
        return;
    vr_swap_console_ready(swap);
    vr_swap_console_begin(swap);
}

/* One that was not started after all is not listened to when its old system is. */
void vr_swap_console_end(VrSwap *swap)
{
    if (swap->capture && !vr_capture_has_begun(swap->capture))
        g_clear_pointer(&swap->capture, vr_capture_free);
    if (swap->capture)
        vr_capture_end(swap->capture);
}

/* --- its file ---------------------------------------------------------------------------------------- */

static char *name_of(guint generation)
{
    return g_strdup_printf("g%u.console.log", generation);
}

/* By which the file is known to be of this swap. Free with g_free. */
static char *mark_of(const char *swap_id)
{
    return g_strdup_printf("; swap %s]", swap_id);
}

static GString *new_text(const VrSwap *swap)
{
    g_autoptr(GDateTime) from = g_date_time_new_from_unix_utc(swap->capture_us / G_USEC_PER_SEC);
    g_autofree char *time = g_date_time_format_iso8601(from);
    g_autofree char *domain = vr_printable(swap->row->domain, -1);
    g_autofree char *mark = mark_of(swap->row->id);
    GString *text = g_string_new(NULL);

    g_string_printf(text, "[virt-reimage: serial console of '%.200s', generation %u, from %s%s\n", domain,
                    swap->to->number, time, mark);
    return text;
}

static gboolean has_room(VrStore *store)
{
    struct statvfs room;

    return fstatvfs(vr_store_root_fd(store), &room) == 0 &&
           (guint64)room.f_bavail * (guint64)room.f_frsize >= ROOM_BYTES;
}

static gboolean write_log(VrSwap *swap, GError **error)
{
    g_autofree char *path = NULL;
    g_autofree char *name = name_of(swap->to->number);
    g_autofree char *said = NULL;
    g_autoptr(GString) text = new_text(swap);
    vr_autofd dir_fd = -1;
    gsize length;

    if (!vr_swap_still_owner(swap, error))
        return FALSE;
    if (!has_room(swap->engine.store)) {
        g_set_error_literal(error, VR_ERROR, VR_ERROR_NO_SPACE, "the disk is almost full");
        return FALSE;
    }
    said = vr_console_text(vr_capture_console(swap->capture), &length);
    g_string_append_len(text, said, (gssize)length);
    dir_fd = vr_store_instance_dir(swap->engine.store, swap->row->uuid, &path, error);
    return dir_fd >= 0 && vr_durable_write(dir_fd, name, text->str, text->len, 0600, TRUE, error);
}

void vr_swap_console_keep(VrSwap *swap)
{
    g_autoptr(GError) local = NULL;

    if (!swap->capture)
        return;
    vr_capture_end(swap->capture);
    if (!swap->capture_kept && vr_capture_has_begun(swap->capture) && !write_log(swap, &local))
        vr_debug("%s: its console is not kept: %s", swap->row->domain, local->message);
    swap->capture_kept = TRUE;
    vr_console_drop(vr_capture_console(swap->capture)); /* a run has its swaps until its end */
}

/* --- reading it again -------------------------------------------------------------------------------- */

char *vr_console_log_path(VrStore *store, const char *uuid, guint generation)
{
    return g_strdup_printf("%s/disks/%s/g%u.console.log", vr_store_root(store), uuid, generation);
}

static int open_log(VrStore *store, const char *uuid, guint generation, GError **error)
{
    g_autofree char *relpath = g_strdup_printf("disks/%s/g%u.console.log", uuid, generation);
    vr_autofd fd = vr_open_beneath(vr_store_root_fd(store), relpath, O_RDONLY | O_NONBLOCK, 0, error);
    struct stat st;

    if (fd < 0)
        return -1;
    if (fstat(fd, &st) == 0 && S_ISREG(st.st_mode))
        return vr_fd_steal(&fd);
    g_set_error(error, VR_ERROR, VR_ERROR_INVALID, "%s is not a regular file", relpath);
    return -1;
}

char *vr_console_log_read(VrStore *store, const VrSwapRow *row, gsize *length)
{
    vr_autofd fd = open_log(store, row->uuid, row->to, NULL);
    g_autofree char *bytes = fd >= 0 ? g_malloc(MOST_BYTES) : NULL;
    g_autofree char *mark = mark_of(row->id);
    const char *end;
    gsize got = 0;

    *length = 0;
    if (!bytes || !vr_pread_all(fd, bytes, MOST_BYTES, 0, &got, NULL))
        return NULL;
    end = memchr(bytes, '\n', MIN(got, HEADER_BYTES));
    if (!end || (gsize)(end - bytes) < strlen(mark) || memcmp(end - strlen(mark), mark, strlen(mark)) != 0)
        return NULL;
    *length = got - (gsize)(end + 1 - bytes);
    return g_memdup2(end + 1, MAX(*length, 1));
}
