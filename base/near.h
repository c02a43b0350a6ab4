/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* The word that was meant, where another was typed. */
#pragma once

#include <glib.h>

/* Which of n names is most like `word`; NULL: none is near. Borrowed from names. */
const char *vr_near(const char *word, const char *const *names, gsize n);
