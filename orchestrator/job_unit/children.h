/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * The processes of a job's unit: the command, and what it left to go on by itself when it had ended (--detach). We are the reaper of all of them
 * (PR_SET_CHILD_SUBREAPER), so the unit lives for as long as they do, and a signal of the service manager to us reaches them.
 */
#pragma once

#include <glib.h>

/* From now on what our children leave behind becomes ours. */
gboolean vr_children_adopt(GError **error);

/* To each child that we have now. */
void vr_children_signal(int number);

/* Reaps who has ended, without waiting. *status (of waitpid()) when `pid` was among them, and TRUE then. *left: do we have any still? */
gboolean vr_children_reap(GPid pid, int *status, gboolean *left);
