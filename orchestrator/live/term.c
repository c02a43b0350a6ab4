/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "orchestrator/live/term.h"

#include <term.h>

static const char *sequence_of(const char *capability)
{
    const char *text = tigetstr((char *)capability);

    return text == (const char *)-1 ? NULL : text;
}

gboolean vr_term_set_up(int fd)
{
    int error;

    return setupterm(NULL, fd, &error) == 0;
}

gboolean vr_term_has(const char *capability)
{
    return sequence_of(capability) != NULL;
}

void vr_term_add(GString *text, const char *capability)
{
    const char *sequence = sequence_of(capability);

    if (sequence)
        g_string_append(text, sequence);
}

void vr_term_add_number(GString *text, const char *capability, int number)
{
    const char *sequence = sequence_of(capability);

    if (sequence)
        g_string_append(text, tparm((char *)sequence, number, 0, 0, 0, 0, 0, 0, 0, 0));
}
