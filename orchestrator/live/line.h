/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * A line of a frame: text that is no wider than the terminal, with marks where its look changes. A mark is one byte below 32, which no text from outside
 * has (vr_printable), and takes no column; screen.c turns it into what the terminal understands.
 */
#pragma once

#include <glib.h>

typedef enum {
    VR_MARK_PLAIN = 1,
    VR_MARK_BOLD,
    VR_MARK_FAINT,
    VR_MARK_GOOD,
    VR_MARK_BUSY,
    VR_MARK_WARN,
    VR_MARK_BAD,
    VR_MARK_END_ /* none is as high as this */
} VrMark;

typedef struct {
    guint width, height; /* of the terminal; a frame is one row lower */
    gboolean colours;    /* else there are no marks */
    gboolean utf8;       /* else ASCII alone */
} VrFrameLook;

typedef struct {
    const VrFrameLook *look;
    GString *text;
    guint columns;
    gboolean full; /* what comes now is cut off */
} VrLine;

VrLine vr_line_begin(const VrFrameLook *look);

/* What does not fit ends in an ellipsis. text may come from anywhere. */
void vr_line_add(VrLine *line, VrMark mark, const char *text);
void vr_line_format(VrLine *line, VrMark mark, const char *format, ...) G_GNUC_PRINTF(3, 4);

/* Spaces up to a column; one at least. */
void vr_line_pad(VrLine *line, guint column);

/* Columns that are left. */
guint vr_line_left(const VrLine *line);

/* Ends the line. Free with g_free. */
char *vr_line_end(VrLine *line);

/* Columns of a text, without its marks. */
guint vr_line_columns(const char *text);
