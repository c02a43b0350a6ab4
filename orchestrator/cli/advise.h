/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* What to type next, for errors that do not say it themselves: what the command line was is known here, and so nothing is left to fill in. */
#pragma once

#include "orchestrator/cli/cli.h"

/* Adds a next to the error of a command that has none, as far as its code and the command line give one. */
void vr_advise(const VrCli *cli, GError **error);
