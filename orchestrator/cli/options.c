/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Every option is described once, here; a command says by bits which it takes. */
#include "base/error.h"
#include "disk/store.h"
#include "orchestrator/cli/cli.h"
#include "orchestrator/cli/job.h"

#include <stddef.h>
#include <stdio.h>
#include <string.h>

typedef struct {
    guint bit; /* 0: global */
    const char *name;
    char letter;
    GOptionArg type;
    gsize offset; /* in VrCliOptions */
    const char *text, *value;
} Option;

#define AT(field) offsetof(VrCliOptions, field)

static const Option table[] = {
    {0, "connect", 'c', G_OPTION_ARG_STRING, AT(uri), "libvirt to talk to (default: as virsh chooses)", "URI"},
    {0, "root", 'r', G_OPTION_ARG_FILENAME, AT(root), "where images and OS disks lie", "DIR"},
    {0, "quiet", 'q', G_OPTION_ARG_NONE, AT(quiet), "no progress, notes and headings", NULL},
    {0, "json", 0, G_OPTION_ARG_NONE, AT(json), "answer in JSON", NULL},
    {0, "debug", 0, G_OPTION_ARG_NONE, AT(debug), "log what is done to stderr", NULL},
    {0, "worker-fd", 0, G_OPTION_ARG_INT, AT(worker_fd), NULL, NULL}, /* worker.h; not shown */
    {0, "help", 'h', G_OPTION_ARG_NONE, AT(help), "this help", NULL},
    {VR_OPT_VERSION, "version", 0, G_OPTION_ARG_STRING, AT(version),
     "this version (or latest), not the one of the model", "V"},
    {VR_OPT_FORMAT, "format", 0, G_OPTION_ARG_STRING, AT(format), "the file must be raw or qcow2", "F"},
    {VR_OPT_DIGEST, "digest", 0, G_OPTION_ARG_STRING, AT(digest), "the file must have this digest", "sha256:HEX"},
    {VR_OPT_DIGEST, "digest-file", 0, G_OPTION_ARG_FILENAME, AT(digest_file),
     "… that of its line in a SHA256SUMS file (as --digest @FILE)", "FILE"},
    {VR_OPT_SIGNATURE, "signature", 0, G_OPTION_ARG_FILENAME, AT(signature), "the minisign signature of the file",
     "FILE"},
    {VR_OPT_SIGNATURE, "keys", 0, G_OPTION_ARG_FILENAME, AT(keys), "the directory of the *.pub files to trust", "DIR"},
    {VR_OPT_IMPORT, "as", 0, G_OPTION_ARG_STRING, AT(as), "store it as raw or as qcow2 (default: qcow2)", "F"},
    {VR_OPT_IMPORT, "flatten", 0, G_OPTION_ARG_FILENAME_ARRAY, AT(flatten),
     "its backing file; once more for each below that", "FILE"},
    {VR_OPT_IMPORT, "limit-rate", 0, G_OPTION_ARG_STRING, AT(limit_rate), "read at most this much a second (50M)",
     "SIZE"},
    {VR_OPT_IMPORT, "max-size", 0, G_OPTION_ARG_STRING, AT(max_size), "the image may hold this much (20G, bytes)",
     "SIZE"},
    {VR_OPT_KEEP, "keep", 0, G_OPTION_ARG_STRING, AT(keep), "this many of the newest stay", "N"},
    {VR_OPT_IDENTITY, "publisher", 0, G_OPTION_ARG_STRING, AT(publisher), "with offer and SKU a second name", "P"},
    {VR_OPT_IDENTITY, "offer", 0, G_OPTION_ARG_STRING, AT(offer), "… of the image", "O"},
    {VR_OPT_IDENTITY, "sku", 0, G_OPTION_ARG_STRING, AT(sku), "… the same for all its versions", "S"},
    {VR_OPT_ALL, "all", 0, G_OPTION_ARG_NONE, AT(all), "all instances; it is never the default", NULL},
    {VR_OPT_TO_GENERATION, "to-generation", 0, G_OPTION_ARG_INT, AT(to_generation), "to this one, forward too", "N"},
    {VR_OPT_RUN, "run", 0, G_OPTION_ARG_STRING, AT(run), "the run that is meant, as 'history' shows it", "ID"},
    {VR_OPT_HTML, "html", 0, G_OPTION_ARG_FILENAME, AT(html),
     "with --run: as one page for a browser, in this file (- is stdout)", "FILE"},
    {VR_OPT_AZURE, "azure", 0, G_OPTION_ARG_NONE, AT(azure), "as osUpgradeHistory of a scale set answers, in JSON",
     NULL},
    {VR_OPT_ROLE, "role", 0, G_OPTION_ARG_STRING, AT(role), "only the instances of this role", "R"},
    {VR_OPT_NO_AUTO_ROLLBACK, "no-auto-rollback", 0, G_OPTION_ARG_NONE, AT(no_auto_rollback),
     "leave failed instances on the new disk", NULL},
    {VR_OPT_ROLL, "canary", 0, G_OPTION_ARG_STRING_ARRAY, AT(canary),
     "this instance first; the others after 'promote'. Once more for each", "INSTANCE"},
    {VR_OPT_ROLL, "walk", 0, G_OPTION_ARG_NONE, AT(walk), "wait before each upgrade domain for 'walk'", NULL},
    {VR_OPT_ROLL, "replace", 0, G_OPTION_ARG_NONE, AT(replace), "end the run in flight at its batch border first",
     NULL},
    {VR_OPT_AUTOMATIC, "automatic", 0, G_OPTION_ARG_NONE, AT(automatic),
     "as it begins by itself: refused unless 'triggers' says that it is due", NULL},
    {VR_OPT_DETACH, "detach", 0, G_OPTION_ARG_NONE, AT(detach), "return when it has begun; it goes on by itself", NULL},
    {VR_OPT_WATCH, "watch", 0, G_OPTION_ARG_NONE, AT(watch), "show the run until it has ended", NULL},
    {VR_OPT_PLAIN, "plain", 0, G_OPTION_ARG_NONE, AT(plain), "lines with their time, on a terminal too", NULL},
    {VR_OPT_NOW, "now", 0, G_OPTION_ARG_NONE, AT(now), "put the guests in flight back, and do not finish the batch",
     NULL},
    {VR_OPT_NO_APPLY, "no-apply", 0, G_OPTION_ARG_NONE, AT(no_apply),
     "leave it to 'apply' to bring guests to the model", NULL},
    {VR_OPT_NO_APPLY, "replaces", 0, G_OPTION_ARG_STRING, AT(replaces), NULL, NULL}, /* of the daemon; not shown */
    {VR_OPT_IGNORE, "ignore", 0, G_OPTION_ARG_STRING_ARRAY, AT(ignore),
     "let this finding pass, if it is one of those that may. Once more for each", "FINDING"},
    {VR_OPT_TEMP_DISK, "temp-disk", 0, G_OPTION_ARG_NONE, AT(temp_disk),
     "make disks anew that the model flags as temporary: what is on them is lost", NULL},
    {VR_OPT_LEFT, "left", 0, G_OPTION_ARG_NONE, AT(left),
     "also what instances left that are in no set any more, at once", NULL},
    {VR_OPT_RECOVER, "forget", 0, G_OPTION_ARG_STRING, AT(forget),
     "end the swap of this one, whose domain or record is gone", "INSTANCE"},
    {VR_OPT_RECOVER, "rebuild", 0, G_OPTION_ARG_NONE, AT(rebuild), "restore what a lost state.db knew of instances",
     NULL},
    {VR_OPT_OUTPUT, "output", 0, G_OPTION_ARG_FILENAME, AT(output), "into this file, which is replaced as a whole",
     "FILE"},
    {VR_OPT_OUTPUT, "prometheus", 0, G_OPTION_ARG_NONE, AT(prometheus), "in the text format 0.0.4, not as OpenMetrics",
     NULL},
    {VR_OPT_DELIVER, "deliver", 0, G_OPTION_ARG_NONE, AT(deliver), "tell what waits to those that are configured",
     NULL},
    {VR_OPT_DELIVER, "wait", 0, G_OPTION_ARG_NONE, AT(wait), "… and try again what failed, for at most 15 minutes",
     NULL},
    {VR_OPT_PRINT_DIFF, "print-diff", 0, G_OPTION_ARG_NONE, AT(print_diff),
     "also how the XML of each domain would change, as diff -u shows it", NULL},
    {VR_OPT_REASON, "reason", 0, G_OPTION_ARG_STRING, AT(reason), "why, for the record", "TEXT"},
    {VR_OPT_DRY_RUN, "dry-run", 0, G_OPTION_ARG_NONE, AT(dry_run), "say what would be done, change nothing", NULL},
};

gboolean vr_cli_option_text(guint i, VrCliOptionText *text)
{
    const Option *option = &table[i];

    if (i >= G_N_ELEMENTS(table))
        return FALSE;
    *text = (VrCliOptionText){.bit = option->bit,
                              .name = option->name,
                              .letter = option->letter,
                              .text = option->text,
                              .value = option->type == G_OPTION_ARG_NONE ? NULL : option->value,
                              .repeats = option->type == G_OPTION_ARG_FILENAME_ARRAY ||
                                         option->type == G_OPTION_ARG_STRING_ARRAY};
    return TRUE;
}

gboolean vr_cli_option_fits(const VrCliOptionText *option, const VrCliCommand *command)
{
    if (!option->text)
        return FALSE;
    if (option->bit == 0)
        return !g_str_equal(option->name, "json") || (command->options & VR_OPT_JSON);
    return (option->bit & command->options) != 0;
}

void vr_cli_options_print(guint bits)
{
    for (guint i = 0; i < G_N_ELEMENTS(table); i++) {
        const Option *option = &table[i];
        gboolean shown = !option->text ? FALSE
                         : option->bit ? (option->bit & bits) != 0
                                       : (bits & VR_OPT_JSON) && option->offset == AT(json);
        g_autofree char *left =
            g_strdup_printf("--%s%s%s", option->name, option->value ? " " : "", option->value ? option->value : "");
        if (shown)
            printf("  %-22s %s\n", left, option->text);
    }
    printf("and the global options; '%s --help' lists them\n", VR_PROGRAM);
}

/* The context copies entries, but their strings and targets must outlive it; both do. */
static GOptionGroup *group_of(guint bits, gboolean global, VrCliOptions *options)
{
    GOptionGroup *group = global ? g_option_group_new("global", "Global options:", "Global options", NULL, NULL) : NULL;
    g_autoptr(GArray) entries = g_array_new(TRUE, TRUE, sizeof(GOptionEntry));

    if (!group)
        group = g_option_group_new("command", "Options:", "Options", NULL, NULL);
    for (guint i = 0; i < G_N_ELEMENTS(table); i++) {
        const Option *option = &table[i];
        GOptionEntry entry = {option->name,
                              option->letter,
                              option->text ? 0 : G_OPTION_FLAG_HIDDEN,
                              option->type,
                              G_STRUCT_MEMBER_P(options, option->offset),
                              option->text,
                              option->value};
        if (global ? option->bit == 0 : (option->bit & bits) != 0)
            g_array_append_val(entries, entry);
    }
    g_option_group_add_entries(group, (const GOptionEntry *)(gpointer)entries->data);
    return group;
}

GOptionContext *vr_cli_options_global(VrCliOptions *options, gboolean *version)
{
    GOptionContext *context = g_option_context_new("COMMAND …");
    GOptionGroup *group = group_of(0, TRUE, options);
    const GOptionEntry entries[] = {
        {"version", 'V', 0, G_OPTION_ARG_NONE, version, "the version of this program", NULL}, {NULL}};

    g_option_context_set_help_enabled(context, FALSE);
    g_option_context_set_strict_posix(context, TRUE);
    g_option_group_add_entries(group, entries);
    g_option_context_set_main_group(context, group);
    return context;
}

GOptionContext *vr_cli_options_of(const VrCliCommand *command, VrCliOptions *options)
{
    GOptionContext *context = g_option_context_new(command->synopsis);

    g_option_context_set_help_enabled(context, FALSE);
    g_option_context_set_main_group(context, group_of(command->options, FALSE, options));
    g_option_context_add_group(context, group_of(0, TRUE, options));
    return context;
}

const char *vr_cli_options_file_given(const VrCliOptions *options)
{
    for (guint i = 0; i < G_N_ELEMENTS(table); i++) {
        gboolean is_file = table[i].type == G_OPTION_ARG_FILENAME || table[i].type == G_OPTION_ARG_FILENAME_ARRAY;
        if (is_file && table[i].offset != AT(root) && G_STRUCT_MEMBER(gpointer, options, table[i].offset))
            return table[i].name;
    }
    return NULL;
}

/* --- back to words ----------------------------------------------------------------------------------- */

static void add_word(GString *line, const char *name, const char *value)
{
    g_autofree char *word = value ? vr_shell_word(value) : NULL;

    if (name)
        g_string_append_printf(line, " --%s", name);
    if (value)
        g_string_append_printf(line, " %s", word);
}

static void add_option(GString *line, const Option *option, const VrCliOptions *options)
{
    char **values;
    const char *value;
    int number;

    switch (option->type) {
    case G_OPTION_ARG_NONE:
        if (G_STRUCT_MEMBER(gboolean, options, option->offset))
            add_word(line, option->name, NULL);
        return;
    case G_OPTION_ARG_INT:
        number = G_STRUCT_MEMBER(int, options, option->offset);
        if (number != VR_GENERATION_NOT_GIVEN)
            g_string_append_printf(line, " --%s %d", option->name, number);
        return;
    case G_OPTION_ARG_STRING_ARRAY:
    case G_OPTION_ARG_FILENAME_ARRAY:
        values = G_STRUCT_MEMBER(char **, options, option->offset);
        for (; values && *values; values++)
            add_word(line, option->name, *values);
        return;
    default:
        value = G_STRUCT_MEMBER(char *, options, option->offset);
        if (value)
            add_word(line, option->name, value);
    }
}

/* The store is left out where it would be that one anyway. */
static void add_place(GString *line, const VrCliOptions *options)
{
    const char *uri = options->uri ? options->uri : g_getenv("LIBVIRT_DEFAULT_URI");
    g_autofree char *root = vr_store_default_root(uri);

    if (options->uri)
        add_word(line, "connect", options->uri);
    if (options->root && !g_str_equal(options->root, vr_job_root() ? vr_job_root() : root))
        add_word(line, "root", options->root);
}

char *vr_cli_place(const VrCliOptions *options)
{
    GString *line = g_string_new(NULL);

    add_place(line, options);
    return g_string_free(line, FALSE);
}

char *vr_cli_command_line(const VrCli *cli, const VrCliCommand *as)
{
    GString *line = g_string_new(VR_PROGRAM);

    add_place(line, &cli->options);
    g_string_append_printf(line, " %s", as->name);
    for (char **word = cli->args; *word; word++)
        add_word(line, NULL, *word);
    for (guint i = 0; i < G_N_ELEMENTS(table); i++) {
        const Option *option = &table[i];
        if (option->text && (option->bit & as->options & ~(guint)(VR_OPT_DRY_RUN | VR_OPT_PRINT_DIFF)) != 0)
            add_option(line, option, &cli->options);
    }
    return g_string_free(line, FALSE);
}

void vr_cli_options_clear(VrCliOptions *options)
{
    for (guint i = 0; i < G_N_ELEMENTS(table); i++)
        if (table[i].type == G_OPTION_ARG_STRING || table[i].type == G_OPTION_ARG_FILENAME)
            g_clear_pointer(&G_STRUCT_MEMBER(char *, options, table[i].offset), g_free);
        else if (table[i].type == G_OPTION_ARG_FILENAME_ARRAY || table[i].type == G_OPTION_ARG_STRING_ARRAY)
            g_clear_pointer(&G_STRUCT_MEMBER(char **, options, table[i].offset), g_strfreev);
}
