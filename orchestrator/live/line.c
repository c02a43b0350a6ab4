/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "orchestrator/live/line.h"

#include "base/error.h"

static guint columns_of(gunichar c)
{
    return g_unichar_iszerowidth(c) ? 0 : g_unichar_iswide(c) ? 2 : 1;
}

guint vr_line_columns(const char *text)
{
    guint columns = 0;

    for (const char *p = text; *p; p = g_utf8_next_char(p))
        columns += (guchar)*p < VR_MARK_END_ ? 0 : columns_of(g_utf8_get_char(p));
    return columns;
}

VrLine vr_line_begin(const VrFrameLook *look)
{
    return (VrLine){.look = look, .text = g_string_new(NULL)};
}

guint vr_line_left(const VrLine *line)
{
    return line->full || line->columns >= line->look->width ? 0 : line->look->width - line->columns;
}

/* What is shown of a text. Where ASCII alone is shown every other character becomes a column, whatever it takes elsewhere. Free with g_free. */
static char *shown_of(const VrFrameLook *look, const char *text)
{
    g_autofree char *printable = vr_printable(text, -1);
    GString *ascii;

    if (look->utf8)
        return g_steal_pointer(&printable);
    ascii = g_string_new(NULL);
    for (const char *p = printable; *p; p = g_utf8_next_char(p))
        g_string_append_c(ascii, (guchar)*p < 0x80 ? *p : '?');
    return g_string_free(ascii, FALSE);
}

static void add_char(VrLine *line, gunichar c)
{
    g_string_append_unichar(line->text, c);
    line->columns += columns_of(c);
}

/* The columns that are left hold less than the text: the last ones go to the ellipsis. */
static void add_cut(VrLine *line, const char *text, guint left)
{
    guint dots = line->look->utf8 ? 1 : MIN(left, 3);

    for (const char *p = text; *p && columns_of(g_utf8_get_char(p)) + dots <= left; p = g_utf8_next_char(p)) {
        left -= columns_of(g_utf8_get_char(p));
        add_char(line, g_utf8_get_char(p));
    }
    if (line->look->utf8 && left > 0)
        add_char(line, 0x2026);
    for (guint i = 0; !line->look->utf8 && i < dots; i++)
        add_char(line, '.');
    line->full = TRUE;
}

void vr_line_add(VrLine *line, VrMark mark, const char *text)
{
    g_autofree char *shown = shown_of(line->look, text);
    guint left = vr_line_left(line);

    if (left == 0 || !*shown)
        return;
    if (line->look->colours && mark != VR_MARK_PLAIN)
        g_string_append_c(line->text, (char)mark);
    if (vr_line_columns(shown) <= left)
        for (const char *p = shown; *p; p = g_utf8_next_char(p))
            add_char(line, g_utf8_get_char(p));
    else
        add_cut(line, shown, left);
    if (line->look->colours && mark != VR_MARK_PLAIN)
        g_string_append_c(line->text, VR_MARK_PLAIN);
}

void vr_line_format(VrLine *line, VrMark mark, const char *format, ...)
{
    g_autofree char *text = NULL;
    va_list args;

    va_start(args, format);
    text = g_strdup_vprintf(format, args);
    va_end(args);
    vr_line_add(line, mark, text);
}

void vr_line_pad(VrLine *line, guint column)
{
    guint count = line->columns < column ? column - line->columns : 1;

    for (guint i = 0; i < count && vr_line_left(line) > 0; i++)
        add_char(line, ' ');
}

char *vr_line_end(VrLine *line)
{
    gsize length = line->text->len;

    while (length > 0 && line->text->str[length - 1] == ' ')
        length--;
    g_string_truncate(line->text, length);
    return g_string_free(g_steal_pointer(&line->text), FALSE);
}
