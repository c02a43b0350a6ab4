/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * Batches: one line each with a cell a guest, and below one in flight a line for each of its guests. Room is given first to the lines of batches in flight and to
 * what waits, then to one line for all that are done, then to guests in flight, then to each batch that is done by itself, the last ones first.
 */
#include "orchestrator/live/frame_private.h"

#include <stdlib.h>

#define SHORTEST_NAME 8
#define LONGEST_NAME 24
#define CELL_ROWS 3 /* of one batch; one with more guests is shown by its counts */

typedef struct {
    guint number; /* 0: those that are in none yet */
    GPtrArray *guests;
    gboolean in_flight;
} Batch;

static void batch_free(gpointer data)
{
    Batch *batch = data;

    g_ptr_array_unref(batch->guests);
    g_free(batch);
}

static int by_number(const void *a, const void *b)
{
    guint x = (*(Batch *const *)a)->number, y = (*(Batch *const *)b)->number;

    return x == y ? 0 : x == 0 ? 1 : y == 0 ? -1 : x < y ? -1 : 1;
}

/* In their order; those that are in none come last. */
static GPtrArray *batches_of(const VrSnapshot *snapshot)
{
    GPtrArray *batches = g_ptr_array_new_with_free_func(batch_free);
    g_autoptr(GHashTable) found = g_hash_table_new(NULL, NULL);

    for (guint i = 0; i < snapshot->guests->len; i++) {
        VrLiveGuest *guest = snapshot->guests->pdata[i];
        guint number = guest->stage == VR_LIVE_WAITS ? 0 : guest->batch;
        Batch *batch = g_hash_table_lookup(found, GUINT_TO_POINTER(number));
        if (!batch) {
            batch = g_new0(Batch, 1);
            batch->number = number;
            batch->guests = g_ptr_array_new();
            g_hash_table_insert(found, GUINT_TO_POINTER(number), batch);
            g_ptr_array_add(batches, batch);
        }
        g_ptr_array_add(batch->guests, guest);
        batch->in_flight = batch->in_flight || vr_live_stage_in_flight(guest->stage);
    }
    g_ptr_array_sort(batches, by_number);
    return batches;
}

static void count_guests(const GPtrArray *guests, guint counts[VR_LIVE_STAGES_])
{
    for (guint i = 0; i < VR_LIVE_STAGES_; i++)
        counts[i] = 0;
    for (guint i = 0; i < guests->len; i++)
        counts[((const VrLiveGuest *)guests->pdata[i])->stage]++;
}

/* ---- one batch ---- */

static void add_cells(VrFrame *frame, VrLine *line, const GPtrArray *guests, guint from, guint count)
{
    for (guint i = from; i < from + count; i++) {
        const VrStageLook *look = vr_stage_look(((const VrLiveGuest *)guests->pdata[i])->stage);
        vr_line_add(line, look->mark, frame->frame->look.utf8 ? look->utf8 : look->ascii);
    }
}

static guint cell_columns(const VrFrame *frame)
{
    guint width = frame->frame->look.width;

    return width > VR_FRAME_LABEL + 1 ? width - VR_FRAME_LABEL : 1;
}

static guint cell_rows(const VrFrame *frame, const Batch *batch)
{
    return (batch->guests->len + cell_columns(frame) - 1) / cell_columns(frame);
}

static void begin_batch(VrLine *line, const Batch *batch)
{
    if (batch->number > 0)
        vr_line_format(line, VR_MARK_PLAIN, "batch %u", batch->number);
    else
        vr_line_add(line, VR_MARK_PLAIN, "left");
    vr_line_pad(line, VR_FRAME_LABEL);
}

/* Its counts, with its cells before them where both fit. */
static void add_batch(VrFrame *frame, const Batch *batch)
{
    VrLine line = vr_line_begin(&frame->frame->look);
    guint counts[VR_LIVE_STAGES_];
    g_autofree char *text = NULL;

    count_guests(batch->guests, counts);
    text = vr_frame_counts_text(counts, vr_frame_counts_of(frame->snapshot));
    begin_batch(&line, batch);
    if (batch->guests->len + 2 + vr_line_columns(text) <= vr_line_left(&line)) {
        add_cells(frame, &line, batch->guests, 0, batch->guests->len);
        vr_line_add(&line, VR_MARK_PLAIN, "  ");
    }
    vr_line_add(&line, VR_MARK_PLAIN, text);
    g_ptr_array_add(frame->lines, vr_line_end(&line));
}

/* All its cells, in as many lines as that takes, and its counts where they fit. */
static void add_all_cells(VrFrame *frame, const Batch *batch)
{
    guint columns = cell_columns(frame), counts[VR_LIVE_STAGES_];
    g_autofree char *text = NULL;

    count_guests(batch->guests, counts);
    text = vr_frame_counts_text(counts, vr_frame_counts_of(frame->snapshot));
    for (guint at = 0; at < batch->guests->len; at += columns) {
        VrLine line = vr_line_begin(&frame->frame->look);
        if (at == 0)
            begin_batch(&line, batch);
        else
            vr_line_pad(&line, VR_FRAME_LABEL);
        add_cells(frame, &line, batch->guests, at, MIN(columns, batch->guests->len - at));
        if (batch->guests->len <= at + columns && vr_line_columns(text) + 2 <= vr_line_left(&line))
            vr_line_format(&line, VR_MARK_PLAIN, "  %s", text);
        g_ptr_array_add(frame->lines, vr_line_end(&line));
    }
}

/* ---- many that are done ---- */

static void add_group(VrFrame *frame, GPtrArray *batches, guint count)
{
    VrLine line = vr_line_begin(&frame->frame->look);
    guint counts[VR_LIVE_STAGES_] = {0};
    g_autofree char *text = NULL;

    for (guint i = 0; i < count; i++) {
        guint of_one[VR_LIVE_STAGES_];
        count_guests(((const Batch *)batches->pdata[i])->guests, of_one);
        for (guint j = 0; j < VR_LIVE_STAGES_; j++)
            counts[j] += of_one[j];
    }
    text = vr_frame_counts_text(counts, vr_frame_counts_of(frame->snapshot));
    vr_line_format(&line, VR_MARK_PLAIN, "batches %u-%u: %s", ((const Batch *)batches->pdata[0])->number,
                   ((const Batch *)batches->pdata[count - 1])->number, text);
    g_ptr_array_add(frame->lines, vr_line_end(&line));
}

/* ---- one guest in flight ---- */

static guint name_columns(const VrSnapshot *snapshot)
{
    guint columns = SHORTEST_NAME;

    for (guint i = 0; i < snapshot->guests->len; i++)
        columns = MAX(columns, vr_line_columns(((const VrLiveGuest *)snapshot->guests->pdata[i])->domain));
    return MIN(columns, LONGEST_NAME);
}

/* GLib has a space between number and unit that is not ASCII. Free with g_free. */
static char *size_text(guint64 bytes)
{
    g_autofree char *text = g_format_size_full(bytes, G_FORMAT_SIZE_IEC_UNITS);
    g_autoptr(GString) plain = g_string_new(text);

    g_string_replace(plain, "\u00a0", " ", 0);
    return g_string_free(g_steal_pointer(&plain), FALSE);
}

static void add_copy(VrLine *line, const VrLiveGuest *guest)
{
    g_autofree char *done = size_text(guest->copy_done);
    g_autofree char *total = size_text(guest->copy_total);
    g_autofree char *rate = size_text(guest->copy_rate);

    vr_line_format(line, VR_MARK_PLAIN, "  copied %s of %s", done, total);
    if (guest->copy_rate > 0)
        vr_line_format(line, VR_MARK_PLAIN, ", %s/s", rate);
}

/* How its health is, and until when that may change. */
static void add_answer(VrLine *line, const VrLiveGuest *guest)
{
    g_autofree char *left = vr_frame_clock(guest->answer_left_ms);

    if (guest->answer_left_ms >= 0)
        vr_line_format(line, VR_MARK_PLAIN, "  gives up in %s: %s", left, guest->answer);
    else
        vr_line_format(line, VR_MARK_PLAIN, "  %s", guest->answer);
}

static void add_guest(VrFrame *frame, const VrLiveGuest *guest, guint columns)
{
    const VrStageLook *look = vr_stage_look(guest->stage);
    VrLine line = vr_line_begin(&frame->frame->look);
    VrFrameLook narrow = frame->frame->look;
    VrLine name;
    g_autofree char *shown = NULL;

    narrow.width = MIN(narrow.width, columns);
    name = vr_line_begin(&narrow);
    vr_line_add(&name, VR_MARK_PLAIN, guest->domain);
    shown = vr_line_end(&name);
    vr_line_format(&line, VR_MARK_PLAIN, "  %s", shown);
    vr_line_pad(&line, columns + 4);
    vr_line_add(&line, look->mark, look->name);
    vr_line_pad(&line, columns + 15);
    if (guest->stage_ms >= 0) {
        g_autofree char *clock = vr_frame_clock(guest->stage_ms);
        vr_line_add(&line, VR_MARK_PLAIN, clock);
    }
    if (guest->copy_total > 0)
        add_copy(&line, guest);
    else if (guest->reason && guest->stage == VR_LIVE_NOTICE)
        vr_line_format(&line, VR_MARK_PLAIN, "  %s", guest->reason);
    else if (guest->answer)
        add_answer(&line, guest);
    g_ptr_array_add(frame->lines, vr_line_end(&line));
}

/* Those that have been down for longest first, then those that have been in their stage for longest. */
static int by_time(const void *a, const void *b)
{
    const VrLiveGuest *x = *(VrLiveGuest *const *)a, *y = *(VrLiveGuest *const *)b;

    if (x->down_ms != y->down_ms)
        return x->down_ms > y->down_ms ? -1 : 1;
    return x->stage_ms == y->stage_ms ? 0 : x->stage_ms > y->stage_ms ? -1 : 1;
}

static void add_guests(VrFrame *frame, const Batch *batch, guint rows, guint columns)
{
    g_autoptr(GPtrArray) flight = g_ptr_array_new();
    guint shown;

    for (guint i = 0; i < batch->guests->len; i++)
        if (vr_live_stage_in_flight(((const VrLiveGuest *)batch->guests->pdata[i])->stage))
            g_ptr_array_add(flight, batch->guests->pdata[i]);
    if (rows == 0 || flight->len == 0)
        return;
    shown = flight->len <= rows ? flight->len : MAX(rows - 1, 1);
    if (shown < flight->len)
        g_ptr_array_sort(flight, by_time);
    for (guint i = 0; i < shown; i++)
        add_guest(frame, flight->pdata[i], columns);
    if (shown < MIN(flight->len, rows)) {
        VrLine line = vr_line_begin(&frame->frame->look);
        vr_line_format(&line, VR_MARK_FAINT, "  and %u more", flight->len - shown);
        g_ptr_array_add(frame->lines, vr_line_end(&line));
    }
}

static guint in_flight(const Batch *batch)
{
    guint count = 0;

    for (guint i = 0; i < batch->guests->len; i++)
        count += vr_live_stage_in_flight(((const VrLiveGuest *)batch->guests->pdata[i])->stage) ? 1 : 0;
    return count;
}

/* ---- all of it ---- */

typedef struct {
    guint done, flight, guests; /* batches that are over, batches and guests in flight */
    gboolean left;
} Sums;

static Sums sums_of(const GPtrArray *batches)
{
    Sums sums = {0};

    for (guint i = 0; i < batches->len; i++) {
        const Batch *batch = batches->pdata[i];
        if (batch->number == 0)
            sums.left = TRUE;
        else if (batch->in_flight)
            sums.flight++;
        else
            sums.done++;
        sums.guests += in_flight(batch);
    }
    return sums;
}

/* Of the batches that are over, how many go into one line; they are the first ones. */
static guint grouped(const Sums *sums, guint rows)
{
    guint others = sums->flight + (sums->left ? 1 : 0) + sums->guests;
    guint single = rows > others + 1 ? rows - others - 1 : 0;

    return sums->done + others <= rows || sums->done < 2 ? 0 : sums->done - MIN(single, sums->done - 2);
}

static void add_flight(VrFrame *frame, const Batch *batch, guint *rows)
{
    guint before = frame->lines->len, columns = name_columns(frame->snapshot);

    if (cell_rows(frame, batch) <= MIN(CELL_ROWS, *rows + 1))
        add_all_cells(frame, batch);
    else
        add_batch(frame, batch);
    *rows -= MIN(*rows, frame->lines->len - before - 1); /* one is accounted for */
    before = frame->lines->len;
    add_guests(frame, batch, *rows, columns);
    *rows -= MIN(*rows, frame->lines->len - before);
}

void vr_frame_batches(VrFrame *frame, guint rows)
{
    g_autoptr(GPtrArray) batches = batches_of(frame->snapshot);
    Sums sums = sums_of(batches);
    guint group = grouped(&sums, rows), first = frame->lines->len;
    guint lines = sums.flight + (sums.left ? 1 : 0) + (group > 0 ? 1 : 0) + sums.done - group;
    guint spare = rows > lines ? rows - lines : 0;

    if (group > 0)
        add_group(frame, batches, group);
    for (guint i = group; i < batches->len; i++) {
        const Batch *batch = batches->pdata[i];
        if (batch->in_flight)
            add_flight(frame, batch, &spare);
        else
            add_batch(frame, batch);
    }
    if (frame->lines->len > first + rows)
        g_ptr_array_set_size(frame->lines, (gint)(first + rows));
}
