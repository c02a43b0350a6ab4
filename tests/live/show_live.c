/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * A simulated run behind the real view, for tests/live/terminal.py: show_live COUNT BATCH FAILING MS FRAMES. The run's clock goes from its beginning to MS in FRAMES looks, with words on standard
 * error where that is an even number; its last frame is what stays on the terminal.
 */
#include "live/simulated.h"
#include "orchestrator/live/screen.h"
#include "orchestrator/live/watch.h"

#include <locale.h>
#include <stdio.h>
#include <stdlib.h>

typedef struct {
    guint count, batch, failing, frames, frame;
    gint64 ms;
    gint over;
} Show;

static VrSnapshot *next(void *data)
{
    Show *show = data;
    gint64 ms = show->ms * MIN(++show->frame, show->frames) / show->frames;

    if (show->frame % 4 == 2 && show->frames % 2 == 0)
        fprintf(stderr, "a word on standard error, at look %u\n", show->frame);
    if (show->frame > show->frames)
        g_atomic_int_set(&show->over, 1);
    return simulated_run(show->count, show->batch, show->failing, ms);
}

int main(int argc, char **argv)
{
    Show show;
    VrWatchOptions options = {.fd = 1, .read = next, .data = &show, .cancelled = &show.over};

    setlocale(LC_CTYPE, "");
    if (argc != 6 || !vr_screen_can(1))
        return 2;
    show = (Show){.count = (guint)atoi(argv[1]),
                  .batch = (guint)atoi(argv[2]),
                  .failing = (guint)atoi(argv[3]),
                  .ms = atoi(argv[4]),
                  .frames = (guint)atoi(argv[5])};
    vr_watch(&options);
    return 0;
}
