/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* What the run does or waits for, and what its reader can type. */
#include "orchestrator/live/frame_private.h"

#define WHY_ROWS 3

static void add(VrFrame *frame, const char *label, VrMark mark, const char *text)
{
    VrLine line = vr_line_begin(&frame->frame->look);

    vr_line_add(&line, VR_MARK_BOLD, label);
    vr_line_pad(&line, VR_FRAME_LABEL);
    vr_line_add(&line, mark, text);
    g_ptr_array_add(frame->lines, vr_line_end(&line));
}

/* ---- now ---- */

static guint current_batch(const VrSnapshot *snapshot)
{
    guint batch = 0;

    for (guint i = 0; i < snapshot->guests->len; i++) {
        const VrLiveGuest *guest = snapshot->guests->pdata[i];
        if (vr_live_stage_in_flight(guest->stage) && (batch == 0 || guest->batch < batch))
            batch = guest->batch;
    }
    return batch;
}

/* "batch 3: 2 boot, 1 is probed"; NULL: none is in flight. Free with g_free. */
static char *flight_text(const VrSnapshot *snapshot)
{
    guint batch = current_batch(snapshot), counts[VR_LIVE_STAGES_];
    g_autofree char *text = NULL;

    if (batch == 0 || snapshot->point == VR_POINT_BETWEEN) /* then what is in flight is prepared ahead */
        return NULL;
    vr_frame_count(snapshot, batch, counts);
    text = vr_frame_counts_text(counts, VR_COUNTS_IN_FLIGHT);
    return g_strdup_printf("batch %u: %s%s", batch, text,
                           snapshot->point == VR_POINT_ENDING ? "; then the run ends"
                           : snapshot->pause_requested        ? "; then it pauses"
                                                              : "");
}

static char *wait_text(const VrSnapshot *snapshot)
{
    g_autofree char *left = vr_frame_clock(snapshot->wake_left_ms);

    if (snapshot->point == VR_POINT_ENDING)
        return g_strdup("it ends");
    if (snapshot->wake_left_ms > 0)
        return g_strdup_printf("pause between two batches: goes on in %s", left);
    return g_strdup("looks at the whole set before the next batch");
}

static void add_ended(VrFrame *frame)
{
    const VrSnapshot *snapshot = frame->snapshot;
    guint counts[VR_LIVE_STAGES_];
    gboolean failed;
    const char *why = snapshot->error_text ? snapshot->error_text : "";
    gboolean low = vr_frame_is_low(frame->frame);
    g_autofree char *sums = NULL, *text = NULL;

    vr_frame_count(snapshot, 0, counts);
    failed = counts[VR_LIVE_BACK] + counts[VR_LIVE_FAILED] + counts[VR_LIVE_UNKNOWN] > 0;
    sums = vr_frame_counts_text(counts, VR_COUNTS_AT_END);
    text = g_strdup_printf("%s: %s%s%s", vr_run_status_name(snapshot->status), sums ? sums : "no guest was moved",
                           low && *why ? "; " : "", low ? why : "");
    add(frame, "Ended", failed || snapshot->status != VR_RUN_COMPLETED ? VR_MARK_BAD : VR_MARK_GOOD, text);
    if (!low)
        vr_frame_wrap(frame, "", VR_MARK_PLAIN, why, 0, VR_MARK_PLAIN, WHY_ROWS);
}

void vr_frame_now(VrFrame *frame)
{
    const VrSnapshot *snapshot = frame->snapshot;
    g_autofree char *flight = flight_text(snapshot), *text = NULL;
    g_autofree char *left = vr_frame_clock(snapshot->hold_left_ms);

    if (snapshot->ended) {
        add_ended(frame);
        return;
    }
    if (!snapshot->has_process) {
        add(frame, "Now", VR_MARK_BAD, "nothing moves: the process of the run is gone");
        return;
    }
    if (snapshot->hold_text && snapshot->hold_left_ms >= 0)
        text = g_strdup_printf("waits, for %s: %s", left, snapshot->hold_text);
    else if (snapshot->hold_text)
        text = g_strdup_printf("waits: %s", snapshot->hold_text);
    else
        text = flight ? g_steal_pointer(&flight) : wait_text(snapshot);
    add(frame, "Now", snapshot->hold_text ? VR_MARK_WARN : VR_MARK_PLAIN, text);
    if (!snapshot->answers)
        add(frame, "", VR_MARK_BAD, "its process does not answer: this is what it wrote last");
}

/* ---- what to type ---- */

typedef struct {
    VrFrame *frame;
    guint rows;
} Typing;

static void type(Typing *typing, const char *what, const char *why)
{
    VrLine line = vr_line_begin(&typing->frame->frame->look);

    if (typing->rows == 0)
        return;
    vr_line_add(&line, VR_MARK_BOLD, typing->frame->lines->len == 0 ? "Type" : "");
    vr_line_pad(&line, VR_FRAME_LABEL);
    vr_line_add(&line, VR_MARK_BOLD, what);
    vr_line_format(&line, VR_MARK_PLAIN, "  %s", why);
    g_ptr_array_add(typing->frame->lines, vr_line_end(&line));
    typing->rows--;
}

static void type_command(Typing *typing, const char *command, const char *why)
{
    g_autofree char *text = g_strdup_printf("virt-reimage %s %s", command, typing->frame->snapshot->set);

    type(typing, text, why);
}

static void type_history(Typing *typing, const char *why)
{
    const VrSnapshot *snapshot = typing->frame->snapshot;
    g_autofree char *text = g_strdup_printf("virt-reimage history %s --run %s", snapshot->set, snapshot->run_id);

    type(typing, text, why);
}

/* Who was put back was so for what its new disk is, as a rule: then retry would fail again, and so would the upgrade of the others. */
static void type_exclude(Typing *typing)
{
    const VrSnapshot *snapshot = typing->frame->snapshot;
    g_autofree char *text = NULL;

    if (!snapshot->version)
        return;
    text = g_strdup_printf("virt-reimage image-exclude %s %s", snapshot->image, snapshot->version);
    type(typing, text, "if it is bad");
}

static void type_ended(Typing *typing)
{
    guint counts[VR_LIVE_STAGES_];
    gboolean failed;

    vr_frame_count(typing->frame->snapshot, 0, counts);
    if (counts[VR_LIVE_UNKNOWN] > 0)
        type_command(typing, "recover", "once you have looked at them");
    failed = counts[VR_LIVE_BACK] + counts[VR_LIVE_FAILED] > 0;
    type_history(typing, failed || counts[VR_LIVE_UNKNOWN] > 0 ? "why" : "all times");
    if (failed)
        type_command(typing, "retry", "those again that failed");
    if (counts[VR_LIVE_BACK] > 0 && typing->frame->snapshot->status == VR_RUN_FAULTED)
        type_exclude(typing);
}

static void type_interrupted(Typing *typing)
{
    if (typing->frame->snapshot->detached) {
        type_command(typing, "resume", "goes on with it");
        type_command(typing, "cancel", "ends it");
    } else {
        type_command(typing, "recover", "brings its guests to an end");
    }
}

/* What lets go on what holds it. */
static void type_go_on(Typing *typing)
{
    switch (typing->frame->snapshot->point) {
    case VR_POINT_PAUSED:
        type_command(typing, "resume", "it goes on");
        break;
    case VR_POINT_APPROVAL:
        type_command(typing, "approve", "it begins");
        break;
    case VR_POINT_WALK:
        type_command(typing, "walk", "and the upgrade domain that goes next");
        break;
    case VR_POINT_CANARY:
    case VR_POINT_CHECKPOINT:
    case VR_POINT_BAKE:
        type_command(typing, "promote", "it goes on now");
        break;
    default:
        break;
    }
}

static void type_for_runner(Typing *typing)
{
    const VrSnapshot *snapshot = typing->frame->snapshot;

    if (snapshot->point == VR_POINT_ENDING)
        type(typing, "Ctrl-C", "again puts the guests in flight back on their old disks");
    else if (current_batch(snapshot) > 0)
        type(typing, "Ctrl-C", "finishes the batch and ends the run; twice puts its guests back");
    else
        type(typing, "Ctrl-C", "ends the run here");
}

static void type_for_watcher(Typing *typing)
{
    if (typing->frame->snapshot->point == VR_POINT_BATCH || typing->frame->snapshot->point == VR_POINT_BETWEEN)
        type_command(typing, "pause", "stops it at the end of the batch");
    type_command(typing, "cancel", "ends it there; --now puts guests back");
    type(typing, "Ctrl-C", "ends this view only");
}

void vr_frame_type(VrFrame *frame, guint rows)
{
    Typing typing = {frame, rows};

    if (frame->snapshot->ended) {
        type_ended(&typing);
        return;
    }
    if (!frame->snapshot->has_process) {
        type_interrupted(&typing);
        return;
    }
    type_go_on(&typing);
    if (frame->frame->attached)
        type_for_watcher(&typing);
    else
        type_for_runner(&typing);
}
