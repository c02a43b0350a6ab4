/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "orchestrator/run_answers.h"

#define POINTS (VR_POINT_INTERRUPTED + 1)

/* One letter for each VrRunPoint, in its order. */
static const struct {
    const char *name;
    char answers[POINTS + 1];
} rows[] = {
    /*                                                      none, batch, between, paused, approval, walk, canary,
                                                            checkpoint, bake, window, ending, interrupted */
    [VR_DO_PAUSE] = {"pause", "-bnannnn-n-r"},
    [VR_DO_RESUME] = {"resume", "-nnnaaaaa--r"},
    [VR_DO_CANCEL] = {"cancel", "-bnnnnnnnnan"},
    [VR_DO_CANCEL_NOW] = {"cancel --now", "-nnnnnnnnnnn"},
    [VR_DO_WALK] = {"walk", "-----n-----r"},
    [VR_DO_PROMOTE] = {"promote", "------nnn--r"},
    [VR_DO_APPROVE] = {"approve", "-aannaaaaa-r"},
    [VR_DO_ROLLBACK_ALL] = {"rollback --all", "neeeeeeeeeee"},
    [VR_DO_REPLACE] = {"upgrade --replace", "neeeeeeeeeee"},
    [VR_DO_RUN] = {"other runs", "n-----------"},
    [VR_DO_CHANGE] = {"changes", "n-----------"},
};

static const struct {
    char letter;
    const char *name;
} answers[] = {
    [VR_ANSWER_NOW] = {'n', "now"},           [VR_ANSWER_BORDER] = {'b', "at the border"},
    [VR_ANSWER_ALREADY] = {'a', "already"},   [VR_ANSWER_ENDS_RUN] = {'e', "ends the run first"},
    [VR_ANSWER_RESTARTS] = {'r', "restarts"}, [VR_ANSWER_REFUSED] = {'-', "refused"},
};

const char *vr_operation_name(VrOperation operation)
{
    return rows[operation].name;
}

const char *vr_answer_name(VrAnswer answer)
{
    return answers[answer].name;
}

VrAnswer vr_run_answer(VrOperation operation, VrRunPoint point)
{
    for (guint i = 0; i < G_N_ELEMENTS(answers); i++)
        if (answers[i].letter == rows[operation].answers[point])
            return (VrAnswer)i;
    g_assert_not_reached();
}

const char *vr_run_refusal(VrOperation operation, VrRunPoint point)
{
    if (operation == VR_DO_RUN || operation == VR_DO_CHANGE)
        return "wait until it ends, or end it with 'cancel'";
    if (point == VR_POINT_NONE)
        return "no run is open";
    if (point == VR_POINT_ENDING)
        return "the run is ending";
    if (point == VR_POINT_WINDOW)
        return "the run waits for its maintenance window, which no command opens: wait, or end it with 'cancel'; an "
               "'upgrade' that a person begins has no window";
    switch (operation) {
    case VR_DO_PAUSE:
        return "all instances are done, and the run only watches them: 'promote' ends it, and so does 'cancel'";
    case VR_DO_WALK:
        return point == VR_POINT_BATCH ? "a batch is in flight: 'walk' fits when it is done"
                                       : "the run does not wait for 'walk'";
    default:
        return "the run does not wait for that";
    }
}

VrOperation vr_operation_of_event(VrEventType event)
{
    static const VrOperation operations[] = {
        [VR_EVENT_PAUSE] = VR_DO_PAUSE,           [VR_EVENT_RESUME] = VR_DO_RESUME, [VR_EVENT_CANCEL] = VR_DO_CANCEL,
        [VR_EVENT_CANCEL_NOW] = VR_DO_CANCEL_NOW, [VR_EVENT_WALK] = VR_DO_WALK,     [VR_EVENT_PROMOTE] = VR_DO_PROMOTE,
        [VR_EVENT_APPROVE] = VR_DO_APPROVE};

    return operations[event];
}
