/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* What the terminal of TERM understands, by terminfo. In a file of its own: <term.h> makes macros of `lines`, `columns` and hundreds of other words. */
#pragma once

#include <glib.h>

/* FALSE: TERM is not known. For the process, which has one terminal. */
gboolean vr_term_set_up(int fd);

/* By the names of terminfo(5): "el". */
gboolean vr_term_has(const char *capability);

/* Does it take ESC [ ? NUMBER h? One that does passes over the numbers that it does not know; others may print them. */
gboolean vr_term_has_private_modes(void);

/* Adds the sequence, if it has one. */
void vr_term_add(GString *text, const char *capability);

/* The same, of one that takes a number: "setaf". */
void vr_term_add_number(GString *text, const char *capability, int number);
