/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "base/near.h"

#include <string.h>

/* Levenshtein's distance; names are short, longer words are near to nothing. */
static guint distance(const char *a, const char *b)
{
    enum { LONGEST = 32 };
    gsize a_length = strlen(a), b_length = strlen(b);
    guint row[LONGEST + 1];

    if (a_length > LONGEST || b_length > LONGEST)
        return G_MAXUINT;
    for (guint j = 0; j <= b_length; j++)
        row[j] = j;
    for (guint i = 1; i <= a_length; i++) {
        guint diagonal = row[0];
        row[0] = i;
        for (guint j = 1; j <= b_length; j++) {
            guint above = row[j];
            row[j] = MIN(MIN(above, row[j - 1]) + 1, diagonal + (a[i - 1] == b[j - 1] ? 0 : 1));
            diagonal = above;
        }
    }
    return row[b_length];
}

const char *vr_near(const char *word, const char *const *names, gsize n)
{
    const char *nearest = NULL;
    guint best = 4; /* more typing errors than three are another word */

    for (gsize i = 0; i < n; i++) {
        guint found = distance(word, names[i]);
        if (found < best && found < strlen(names[i])) {
            best = found;
            nearest = names[i];
        }
    }
    return nearest;
}
