/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * What commands print: lines, tables, JSON. Names come from domains, models and files, so nothing reaches the terminal
 * unescaped: each of these escapes what it prints (vr_printable).
 */
#pragma once

#include "orchestrator/cli/cli.h"

#include <jansson.h>

/* A line of the answer on stdout: not with --json. */
void vr_say(const VrCli *cli, const char *format, ...) G_GNUC_PRINTF(2, 3);
/* "note: …" on stderr; not with --quiet. */
void vr_note(const VrCli *cli, const char *format, ...) G_GNUC_PRINTF(2, 3);
/* "warning: …" on stderr, always. */
void vr_warn(const VrCli *cli, const char *format, ...) G_GNUC_PRINTF(2, 3);
/* A line on stderr as it is; not with --quiet. */
void vr_tell(const VrCli *cli, const char *format, ...) G_GNUC_PRINTF(2, 3);

/* "Name:   text" of a description; text NULL: "-". */
void vr_label(const VrCli *cli, const char *name, const char *text);
void vr_label_format(const VrCli *cli, const char *name, const char *format, ...) G_GNUC_PRINTF(3, 4);

/* "  web-0: why" below a table, for what is too long for a cell; reason NULL: nothing. */
void vr_say_why(const VrCli *cli, const char *domain, const char *reason);

/* --- tables ------------------------------------------------------------------------------------------ */

typedef struct VrTable VrTable;

/* headings: NULL-terminated; one that begins with '>' is aligned to the right. */
VrTable *vr_table_new(const VrCli *cli, const char *const *headings);
void vr_table_free(VrTable *table);
G_DEFINE_AUTOPTR_CLEANUP_FUNC(VrTable, vr_table_free)

/* One cell a heading; NULL is shown as "-". */
void vr_table_row(VrTable *table, const char *const *cells);
void vr_table_print(VrTable *table);

/* --- texts, free with g_free ------------------------------------------------------------------------- */

char *vr_text_size(guint64 bytes);  /* "1.5 GiB" */
char *vr_text_time(gint64 wall_us); /* local time "2026-11-21 23:02:32"; 0: "-" */
char *vr_text_duration(gint64 ms);  /* "312 ms"; negative: "-" */
char *vr_text_number(gint64 number);

/* --- JSON -------------------------------------------------------------------------------------------- */

G_DEFINE_AUTOPTR_CLEANUP_FUNC(json_t, json_decref)

/* A string, whatever its bytes; NULL is null. */
json_t *vr_json_text(const char *text);
json_t *vr_json_time(gint64 wall_us); /* RFC 3339; 0 is null */
json_t *vr_json_ms(gint64 ms);        /* negative is null */

/* Prints the document and drops it. */
void vr_json_print(json_t *document);
/* One line of a stream, flushed. */
void vr_json_print_line(json_t *document);
