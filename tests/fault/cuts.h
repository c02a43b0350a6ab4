/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* A process of an engine test that ends at a chosen place, as kill -9 would end it. */
#pragma once

#include "engine/support.h"

/* The at-th call of the hypervisor (before, after), or the at-th reading of the wall clock, which each journal write does inside its
 * transaction; beyond CUT_KINDS: the at-th write, completion or flush of a copy. */
typedef enum { CUT_BEFORE_CALL, CUT_AFTER_CALL, CUT_IN_JOURNAL, CUT_KINDS, CUT_IN_COPY } CutKind;

/* The clock that is counted; nobody sleeps on it: time jumps instead, a little further than was asked for. */
void cut_install_clock(void);

/* Runs `act` in a process of its own that ends at the cut; opens the world again. TRUE when the cut fired. */
gboolean cut_in(World *world, void (*act)(World *world), CutKind kind, guint at);
