/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "base/error.h"
#include "orchestrator/extensions.h"

#include <string.h>

#define LINE_CHARS 300
#define WORD_MIN 6 /* shorter ones are in any text */
#define WHOLE_MIN 3
#define BETWEEN_WORDS " \t\r\n\"',;:={}[]()<>&|"

static void add_needle(GPtrArray *needles, const char *text, gsize length, gsize least)
{
    while (length > 0 && g_ascii_isspace(text[length - 1]))
        length--;
    while (length > 0 && g_ascii_isspace(*text)) {
        text++;
        length--;
    }
    if (length >= least)
        g_ptr_array_add(needles, g_strndup(text, length));
}

static void add_pieces(GPtrArray *needles, const char *text, const char *between, gsize least)
{
    while (*text) {
        gsize length = strcspn(text, between);
        add_needle(needles, text, length, least);
        text += length;
        text += strspn(text, between);
    }
}

static int longer_first(gconstpointer a, gconstpointer b)
{
    gsize x = strlen(*(char *const *)a), y = strlen(*(char *const *)b);

    return (x < y) - (x > y);
}

static void needle_free(gpointer needle)
{
    explicit_bzero(needle, strlen(needle));
    g_free(needle);
}

static void mask(GString *output, const VrPayload *secret)
{
    g_autoptr(GPtrArray) needles = g_ptr_array_new_with_free_func(needle_free);
    const char *text = (const char *)secret->data;

    if (!text)
        return;
    add_needle(needles, text, strlen(text), WHOLE_MIN);
    add_pieces(needles, text, "\n", WORD_MIN);
    add_pieces(needles, text, BETWEEN_WORDS, WORD_MIN);
    g_ptr_array_sort(needles, longer_first);
    for (guint i = 0; i < needles->len; i++)
        g_string_replace(output, needles->pdata[i], "***", 0);
}

/* What is before the first whole line may be the end of a secret that no mask knows. */
static const char *whole_lines(const char *output, gboolean cut, const VrPayload *secret)
{
    const char *line = cut ? strchr(output, '\n') : NULL;

    if (!cut)
        return output;
    return line ? line + 1 : output + MIN(strlen(output), secret->length);
}

static char *shown_line(const char *line, gsize length)
{
    g_autofree char *printable = vr_printable(line, (gssize)length);
    glong chars = g_utf8_strlen(printable, -1);
    g_autofree char *begin = chars > LINE_CHARS ? g_utf8_substring(printable, 0, LINE_CHARS) : NULL;

    return begin ? g_strconcat(begin, "...", NULL) : g_steal_pointer(&printable);
}

char *vr_extension_output(const char *output, gboolean cut, const VrPayload *secret)
{
    g_autoptr(GString) text = g_string_new(whole_lines(output, cut, secret));
    GString *shown = g_string_new(NULL);
    g_auto(GStrv) lines = NULL;
    guint count;

    mask(text, secret);
    g_strchomp(text->str);
    lines = g_strsplit(text->str, "\n", -1);
    count = g_strv_length(lines);
    for (guint i = count > VR_EXTENSION_LINES ? count - VR_EXTENSION_LINES : 0; i < count; i++) {
        g_autofree char *line = shown_line(g_strchomp(lines[i]), strlen(lines[i]));
        g_string_append_printf(shown, "%s%s", shown->len > 0 ? "\n" : "", line);
    }
    return g_string_free(shown, FALSE);
}
