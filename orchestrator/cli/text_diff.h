/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* The difference of two texts as diff -u writes it, by diff itself. */
#pragma once

#include <glib.h>

/* "" where they are the same. The labels stand in the first two lines. No text touches a disk. Free with g_free. */
char *vr_text_diff(const char *before, const char *after, const char *label_before, const char *label_after,
                   GError **error);
