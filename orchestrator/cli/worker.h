/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * The worker: the process in which a run goes on when its command has returned (--detach), or in which one goes on whose process has ended. It is this
 * program with the same words and --worker-fd N before them, in a session of its own. Until its run has begun it speaks to the terminal of
 * the command, which waits for one byte on the pipe N; after that its words go to ROOT/run/SET/log. Where it ends without that byte, it has
 * said why, and its exit status is the command's.
 */
#pragma once

#include "orchestrator/cli/cli.h"

gboolean vr_worker_is(const VrCli *cli);

/* Starts a worker with the words of this command. TRUE: its run has begun. Where it ended before that, this process ends with its status;
 * FALSE: it was killed. */
gboolean vr_worker_start(const VrCli *cli, GError **error);

/* In the worker: the run has begun, anew or after another process. run_fd: ROOT/run/SET. FALSE: nobody waits any more, and the run shall not be. */
gboolean vr_worker_ready(const VrCli *cli, int run_fd, gboolean anew, GError **error);
