/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "orchestrator/live/term.h"

#include <string.h>
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

gboolean vr_term_has_private_modes(void)
{
    static const char *const capabilities[] = {"civis", "cnorm", "smam", "rmam"};

    for (guint i = 0; i < G_N_ELEMENTS(capabilities); i++) {
        const char *sequence = sequence_of(capabilities[i]);
        if (sequence && strstr(sequence, "\033[?"))
            return TRUE;
    }
    return FALSE;
}

/* tputs() knows no data of its caller. */
static _Thread_local GString *sink;

static int put(int c)
{
    g_string_append_c(sink, (char)c);
    return c;
}

/* Without the padding that old terminals have in their sequences: "$<3>". */
static void add_sequence(GString *text, const char *sequence)
{
    sink = text;
    (void)tputs(sequence, 1, put);
    sink = NULL;
}

void vr_term_add(GString *text, const char *capability)
{
    const char *sequence = sequence_of(capability);

    if (sequence)
        add_sequence(text, sequence);
}

void vr_term_add_number(GString *text, const char *capability, int number)
{
    const char *sequence = sequence_of(capability);

    if (sequence)
        add_sequence(text, tparm((char *)sequence, number, 0, 0, 0, 0, 0, 0, 0, 0));
}
