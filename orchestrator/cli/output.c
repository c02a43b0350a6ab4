/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "orchestrator/cli/output.h"

#include "base/clock.h"
#include "base/error.h"

#include <libsmartcols.h>
#include <stdio.h>

/* --- lines ------------------------------------------------------------------------------------------- */

G_GNUC_PRINTF(3, 0)
static void print_line(FILE *where, const char *prefix, const char *format, va_list args)
{
    g_autofree char *text = g_strdup_vprintf(format, args);
    g_autofree char *shown = vr_printable(text, -1);

    fprintf(where, "%s%s\n", prefix, shown);
}

void vr_say(const VrCli *cli, const char *format, ...)
{
    va_list args;

    if (cli->options.json)
        return;
    va_start(args, format);
    print_line(stdout, "", format, args);
    va_end(args);
}

void vr_note(const VrCli *cli, const char *format, ...)
{
    va_list args;

    if (cli->options.quiet)
        return;
    va_start(args, format);
    print_line(stderr, "note: ", format, args);
    va_end(args);
}

void vr_warn(const VrCli *cli, const char *format, ...)
{
    va_list args;

    va_start(args, format);
    print_line(stderr, "warning: ", format, args);
    va_end(args);
}

void vr_tell(const VrCli *cli, const char *format, ...)
{
    va_list args;

    if (cli->options.quiet)
        return;
    va_start(args, format);
    print_line(stderr, "", format, args);
    va_end(args);
}

void vr_label(const VrCli *cli, const char *name, const char *text)
{
    g_autofree char *label = g_strdup_printf("%s:", name);

    vr_say(cli, "%-16s %s", label, text ? text : "-");
}

void vr_label_format(const VrCli *cli, const char *name, const char *format, ...)
{
    va_list args;
    va_start(args, format);
    g_autofree char *text = g_strdup_vprintf(format, args);
    va_end(args);
    vr_label(cli, name, text);
}

void vr_say_why(const VrCli *cli, const char *domain, const char *reason)
{
    if (reason)
        vr_say(cli, "  %s: %s", domain, reason);
}

/* --- tables ------------------------------------------------------------------------------------------ */

struct VrTable {
    struct libscols_table *table;
    guint columns;
};

VrTable *vr_table_new(const VrCli *cli, const char *const *headings)
{
    VrTable *table = g_new0(VrTable, 1);

    table->table = scols_new_table();
    scols_table_enable_noheadings(table->table, cli->options.quiet);
    for (; headings[table->columns]; table->columns++) {
        const char *heading = headings[table->columns];
        gboolean right = *heading == '>';
        scols_table_new_column(table->table, right ? heading + 1 : heading, 0, right ? SCOLS_FL_RIGHT : 0);
    }
    return table;
}

void vr_table_free(VrTable *table)
{
    if (!table)
        return;
    scols_unref_table(table->table);
    g_free(table);
}

void vr_table_row(VrTable *table, const char *const *cells)
{
    struct libscols_line *line = scols_table_new_line(table->table, NULL);

    for (guint i = 0; i < table->columns; i++) {
        g_autofree char *shown = vr_printable(cells[i] ? cells[i] : "-", -1);
        scols_line_set_data(line, i, shown);
    }
}

void vr_table_print(VrTable *table)
{
    if (scols_table_get_nlines(table->table) > 0)
        scols_print_table(table->table);
}

/* --- texts ------------------------------------------------------------------------------------------- */

char *vr_text_size(guint64 bytes)
{
    static const char *const units[] = {"B", "KiB", "MiB", "GiB", "TiB", "PiB"};
    double value = (double)bytes;
    guint unit = 0;

    while (value >= 1024 && unit + 1 < G_N_ELEMENTS(units)) {
        value /= 1024;
        unit++;
    }
    return unit == 0 ? g_strdup_printf("%" G_GUINT64_FORMAT " B", bytes)
                     : g_strdup_printf("%.1f %s", value, units[unit]);
}

char *vr_text_time(gint64 wall_us)
{
    g_autoptr(GDateTime) when = wall_us > 0 ? g_date_time_new_from_unix_local(wall_us / G_USEC_PER_SEC) : NULL;

    return when ? g_date_time_format(when, "%F %T") : g_strdup("-");
}

char *vr_text_duration(gint64 ms)
{
    return ms < 0 ? g_strdup("-") : vr_clock_format_duration(ms);
}

char *vr_text_number(gint64 number)
{
    return g_strdup_printf("%" G_GINT64_FORMAT, number);
}

/* --- JSON -------------------------------------------------------------------------------------------- */

json_t *vr_json_text(const char *text)
{
    g_autofree char *valid = text ? g_utf8_make_valid(text, -1) : NULL;

    return valid ? json_string(valid) : json_null();
}

json_t *vr_json_time(gint64 wall_us)
{
    g_autofree char *text = wall_us > 0 ? vr_clock_format(wall_us) : NULL;

    return text ? json_string(text) : json_null();
}

json_t *vr_json_ms(gint64 ms)
{
    return ms < 0 ? json_null() : json_integer(ms);
}

void vr_json_print(json_t *document)
{
    json_dumpf(document, stdout, JSON_INDENT(2) | JSON_PRESERVE_ORDER);
    fputc('\n', stdout);
    json_decref(document);
}

void vr_json_print_line(json_t *document)
{
    json_dumpf(document, stdout, JSON_COMPACT | JSON_PRESERVE_ORDER);
    fputc('\n', stdout);
    fflush(stdout);
    json_decref(document);
}
