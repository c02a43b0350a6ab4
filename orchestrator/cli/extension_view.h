/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* What became of extensions, for instance-view and history. */
#pragma once

#include "orchestrator/cli/output.h"
#include "orchestrator/extension_results.h"

/* As Azure's instance view has them, with what it does not have beside; [] where results is NULL. */
json_t *vr_extension_results_json(const GPtrArray *results);

/* A label for each, with the last lines of what one said that did not succeed. */
void vr_extension_results_print(const VrCli *cli, const GPtrArray *results);

/* "base Succeeded in 1.2 s; app Failed in 300 ms: ended with status 3". NULL: there are none. Free with g_free. */
char *vr_extension_results_line(const GPtrArray *results);
