/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* What to type next, for errors that do not say it themselves: what the command line was is known here, and so nothing is left to fill in. */
#pragma once

#include "orchestrator/cli/cli.h"

/* Adds a next to the error of a command that has none, as far as its code and the command line give one. Commands of this program that its parts have
 * in quotes get the libvirt and the store that were given, so that they are about the same guests. */
void vr_advise(const VrCli *cli, GError **error);

/* ... to that of a command line with more arguments than the command takes. */
void vr_advise_too_many(const VrCli *cli, GError **error);
