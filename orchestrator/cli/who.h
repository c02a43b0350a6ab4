/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Who may do what here: what a user without privileges is told when a command that was not done by the daemon could not be done. */
#pragma once

#include "orchestrator/cli/cli.h"

/* Adds to the error of a command that failed what its user can type instead: the store is root's, or it was about guests of his own. Leaves other
 * errors, and those of root and of jobs, as they are. */
void vr_who_advise(const VrCli *cli, GError **error);
