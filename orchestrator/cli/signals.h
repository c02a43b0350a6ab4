/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * Ctrl-C and its relatives. One thread waits for SIGINT, SIGTERM and SIGHUP; all others block them. What a signal means
 * is said by what is under way: a run ends at its batch border, and at the second signal puts back what is in
 * flight; a copy ends and leaves nothing; anything else dies of the signal as usual (each state of a swap
 * survives that, see recover). SIGPIPE is ignored: a run does not die of its reader.
 *
 * A command that the daemon does for us (remote.h) gets each of them as a Ctrl-C, as it would here. In a job (job.h) they differ: SIGINT is a person's
 * Ctrl-C; SIGHUP says that the person is gone, which is a Ctrl-C once and never a second; SIGTERM says that the host or the daemon goes down, and a run
 * is then left open at its batch border, for the next daemon to go on with. What is no run may come to its end, and dies of a second one.
 */
#pragma once

#include "orchestrator/executor.h"

/* Blocks the signals and starts the thread. Once, in main(), before any other thread. */
void vr_signals_begin(void);

/* From now on a signal cancels this run, or, where it is detached or this is a job that gets SIGTERM, ends this process at the batch border and leaves it
 * open; NULL: no run any more. The executor lives until after the NULL. */
void vr_signals_set_run(VrExecutor *executor, gboolean detached);

/* From now on a signal is handed to relay(), on the thread that waits; NULL: not any more, and no call of it is under way. */
void vr_signals_set_relay(void (*relay)(int number, void *data), void *data);

/* As if the signal had never been awaited: ends the process, without a core. */
G_NORETURN void vr_signals_die_of(int number);

/* From now on a signal sets *cancelled to 1; NULL: nothing to cancel any more. */
void vr_signals_set_flag(gint *cancelled);
