/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * What must hold of the files that a process left (SAFETY section 1). They share no line with the engine but the parser of
 * domain XML: rows are read with SQLite, files byte by byte.
 */
#pragma once

#include "fault/sweep_world.h"

/* At any instant, a host that reboots now included. NULL: it holds; else what does not, free with g_free. */
char *check_instant(const World *world, Tree *now);

/* When a recovery has ended it: as above, and nothing is open, left behind or out of step. */
char *check_settled(const World *world, Tree *now);
