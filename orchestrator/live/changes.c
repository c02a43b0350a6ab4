/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "orchestrator/live/changes.h"

#include "base/error.h"
#include "orchestrator/live/frame_private.h"

static void add(GString *text, const char *time, const char *format, ...) G_GNUC_PRINTF(3, 4);

static void add(GString *text, const char *time, const char *format, ...)
{
    g_autofree char *line = NULL, *shown = NULL;
    va_list args;

    va_start(args, format);
    line = g_strdup_vprintf(format, args);
    va_end(args);
    shown = vr_printable(line, -1);
    g_string_append_printf(text, "%s %s\n", time, shown);
}

static void add_sums(GString *text, const char *time, const VrSnapshot *now, const char *what)
{
    guint counts[VR_LIVE_STAGES_];
    g_autofree char *sums = NULL;

    vr_frame_count(now, 0, counts);
    sums = vr_frame_counts_text(counts, vr_frame_counts_of(now));
    add(text, time, "run %s: %s of %s%s%s%s%s: %s", now->run_id, vr_run_kind_name(now->kind), now->set,
        now->version ? " to " : "", now->version ? now->image : "", now->version ? " " : "",
        now->version ? now->version : "", sums ? sums : "no guest is to be moved");
    if (what)
        add(text, time, "run %s: %s", now->run_id, what);
}

static void add_guests(GString *text, const char *time, const VrSnapshot *before, const VrSnapshot *now)
{
    for (guint i = 0; i < now->guests->len; i++) {
        const VrLiveGuest *guest = now->guests->pdata[i];
        const VrLiveGuest *was = i < before->guests->len ? before->guests->pdata[i] : NULL;
        if (was && was->stage == guest->stage)
            continue;
        add(text, time, "  %-16s %s%s%s", guest->domain, vr_live_stage_name(guest->stage), guest->reason ? ": " : "",
            guest->reason ? guest->reason : "");
    }
}

char *vr_live_changes(const VrSnapshot *before, const VrSnapshot *now, gint64 wall_us)
{
    g_autoptr(GDateTime) at = g_date_time_new_from_unix_local(wall_us / G_USEC_PER_SEC);
    g_autofree char *time = g_date_time_format(at, "%F %T");
    GString *text = g_string_new(NULL);
    gboolean gone = !now->ended && !now->has_process;

    if (!before && !now->ended)
        add_sums(text, time, now, NULL);
    if (before)
        add_guests(text, time, before, now);
    if (now->hold_text && (!before || g_strcmp0(before->hold_text, now->hold_text) != 0))
        add(text, time, "waits: %s", now->hold_text);
    if (gone && (!before || before->has_process))
        add(text, time, "the process of run %s is gone; 'virt-reimage status %s' says what to do", now->run_id,
            now->set);
    if (now->ended && (!before || !before->ended))
        add_sums(text, time, now, vr_run_status_name(now->status));
    return g_string_free(text, FALSE);
}
