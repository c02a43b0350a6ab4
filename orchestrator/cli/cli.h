/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * The command line: a table of commands, one file a group. A command is a function over the options that
 * were parsed for it. It prints its answer and returns FALSE with an error; only main() prints errors and chooses
 * the exit status (base/error.h).
 */
#pragma once

#include <glib.h>

#define VR_PROGRAM "virt-reimage"

/* Which options a command takes, beside the global ones; options.c describes each. */
typedef enum {
    VR_OPT_VERSION = 1 << 0,
    VR_OPT_FORMAT = 1 << 1,
    VR_OPT_DIGEST = 1 << 2,
    VR_OPT_IDENTITY = 1 << 3, /* --publisher --offer --sku */
    VR_OPT_REASON = 1 << 4,
    VR_OPT_DRY_RUN = 1 << 5,
    VR_OPT_ALL = 1 << 6,
    VR_OPT_TO_GENERATION = 1 << 7,
    VR_OPT_RUN = 1 << 8,
    VR_OPT_HTML = 1 << 15,
    VR_OPT_NO_AUTO_ROLLBACK = 1 << 9,
    VR_OPT_DELIVER = 1 << 11, /* --deliver --wait */
    VR_OPT_JSON = 1 << 10,    /* a global option that not every command can answer */
    VR_OPT_ROLE = 1 << 16,
    VR_OPT_ROLL = 1 << 17, /* --canary --walk --replace */
    VR_OPT_DETACH = 1 << 18,
    VR_OPT_NOW = 1 << 19,
    VR_OPT_SIGNATURE = 1 << 24, /* --signature --keys */
    VR_OPT_IMPORT = 1 << 25,    /* --as --flatten --max-size --limit-rate */
    VR_OPT_KEEP = 1 << 26,
    VR_OPT_AZURE = 1 << 27,
    VR_OPT_NO_APPLY = 1 << 28,
    VR_OPT_LEFT = 1 << 20,
    VR_OPT_PRINT_DIFF = 1 << 21,
    VR_OPT_IGNORE = 1 << 29,
    VR_OPT_TEMP_DISK = 1 << 30,
    VR_OPT_OUTPUT = 1 << 23, /* --output --prometheus */
    VR_OPT_AUTOMATIC = 1 << 12,
    VR_OPT_WATCH = 1 << 13,
    VR_OPT_PLAIN = 1 << 14,
    VR_OPT_RECOVER = 1 << 22 /* --forget --rebuild */
} VrCliOptionSet;

#define VR_GENERATION_NOT_GIVEN G_MININT /* so that a negative number is told from none */

typedef struct {
    char *uri, *root; /* root: never NULL once parsed */
    gboolean quiet, json, debug, help;
    char *digest_file, *signature, *keys, *max_size, *keep;
    char *as, *limit_rate, **flatten;
    char *version, *format, *digest, *publisher, *offer, *sku, *reason, *run, *role;
    int to_generation; /* VR_GENERATION_NOT_GIVEN, or from 0 */
    gboolean all, dry_run, no_auto_rollback, azure, walk, replace, detach, now, no_apply;
    gboolean left;
    gboolean watch, plain;
    gboolean print_diff;
    gboolean automatic;
    gboolean temp_disk;
    char **canary, **ignore;
    char *forget;
    char *html;
    char *replaces; /* the SHA-256 of the model's text that this one was made of */
    gboolean rebuild;
    char *output;
    gboolean prometheus;
    gboolean deliver, wait;
    int worker_fd; /* of a worker (worker.h); 0: this is none */
} VrCliOptions;

typedef enum {
    VR_GROUP_IMAGES,
    VR_GROUP_SETS,
    VR_GROUP_RUNS,
    VR_GROUP_VIEWS,
    VR_GROUP_HOST,
    VR_GROUP_LAST_,
    VR_GROUP_HIDDEN = VR_GROUP_LAST_ /* for programs: in no list */
} VrCliGroup;

typedef struct VrCliCommand VrCliCommand;

typedef struct {
    VrCliOptions options;
    const VrCliCommand *command;
    char **argv; /* of the program; not owned */
    char **args; /* what is left after the options, NULL-terminated; owned */
    guint n_args;
    const char *request; /* that others were told of, while the command runs that asks for it (notices.h); NULL: none */
} VrCli;

struct VrCliCommand {
    const char *name;
    VrCliGroup group;
    const char *synopsis; /* its arguments: "SET INSTANCE…" */
    const char *summary;  /* one line, for the list */
    const char *details;  /* more lines, for its own help: what it does and does not, special exit statuses */
    const char *example;
    gboolean mutating;
    guint options; /* VrCliOptionSet */
    guint min_args, max_args;
    gboolean (*run)(const VrCli *cli, GError **error);
    gboolean raw; /* all words after its name are arguments, whatever they look like */
};

/* commands.c: the table, ended by a row without a name. */
extern const VrCliCommand vr_cli_commands[];
const VrCliCommand *vr_cli_command_find(const char *name);
/* The command whose name is most like `name`, or NULL when none is near. */
const VrCliCommand *vr_cli_command_nearest(const char *name);

/* cli.c: parses argv and does what it asks for, here or through the daemon (remote.h). TRUE: *status is the exit status. */
gboolean vr_cli_main(int argc, char **argv, int *status, GError **error);
/* The libvirt that virsh chooses where nothing names one. */
const char *vr_cli_default_uri(void);
void vr_cli_clear(VrCli *cli);
G_DEFINE_AUTO_CLEANUP_CLEAR_FUNC(VrCli, vr_cli_clear)

/* options.c: the GOption contexts. before_command: global options only, stops at the first word, and takes *version. */
GOptionContext *vr_cli_options_global(VrCliOptions *options, gboolean *version);
GOptionContext *vr_cli_options_of(const VrCliCommand *command, VrCliOptions *options);
/* What an option is, for those that speak of it. */
typedef struct {
    guint bit; /* VrCliOptionSet; 0: global */
    const char *name;
    char letter;       /* 0: none */
    const char *text;  /* NULL: hidden */
    const char *value; /* NULL: takes none */
    gboolean repeats;  /* once more for each */
} VrCliOptionText;
/* By their order in the table, --version of the program not among them; FALSE: there are no more. */
gboolean vr_cli_option_text(guint i, VrCliOptionText *text);
/* Does the command take it? Global ones all do, but --json. */
gboolean vr_cli_option_fits(const VrCliOptionText *option, const VrCliCommand *command);
/* One line an option that a command takes, for its help. */
void vr_cli_options_print(guint bits);
/* What a person types for `as` with the objects and options of this command, but for those of its answer (--json, --dry-run, ...), in words of the
 * shell. Free with g_free. */
char *vr_cli_command_line(const VrCli *cli, const VrCliCommand *as);
/* What such a command begins with behind the program's name: " --connect URI --root DIR", of which what goes without saying is left out. Free with
 * g_free. */
char *vr_cli_place(const VrCliOptions *options);
void vr_cli_options_clear(VrCliOptions *options);
/* The name of an option that names a file and was given, but for --root; NULL: none was. */
const char *vr_cli_options_file_given(const VrCliOptions *options);

/* complete.c: what the word may be that is typed; words: after the program's name, the last one is not complete. */
gboolean vr_cmd_complete(const VrCli *cli, GError **error);

/* help.c */
void vr_cli_help(void);
void vr_cli_help_of(const VrCliCommand *command);
const char *vr_cli_group_name(VrCliGroup group);

/* help_man.c: help --man PAGE DATE, for the build: the source of a manual page on standard output. */
gboolean vr_cli_man(const char *page, const char *date, GError **error);

/* The commands, by file. */
gboolean vr_cmd_image_check(const VrCli *cli, GError **error);
gboolean vr_cmd_image_publish(const VrCli *cli, GError **error);
gboolean vr_cmd_image_list(const VrCli *cli, GError **error);
gboolean vr_cmd_image_info(const VrCli *cli, GError **error);
gboolean vr_cmd_image_exclude(const VrCli *cli, GError **error);
gboolean vr_cmd_image_include(const VrCli *cli, GError **error);
gboolean vr_cmd_image_verify(const VrCli *cli, GError **error);
gboolean vr_cmd_image_delete(const VrCli *cli, GError **error);
gboolean vr_cmd_image_prune(const VrCli *cli, GError **error);
gboolean vr_cmd_set_define(const VrCli *cli, GError **error);
gboolean vr_cmd_set_edit(const VrCli *cli, GError **error);
gboolean vr_cmd_set_list(const VrCli *cli, GError **error);
gboolean vr_cmd_set_auto(const VrCli *cli, GError **error);
gboolean vr_cmd_set_info(const VrCli *cli, GError **error);
gboolean vr_cmd_set_dump(const VrCli *cli, GError **error);
gboolean vr_cmd_set_undefine(const VrCli *cli, GError **error);
gboolean vr_cmd_adopt(const VrCli *cli, GError **error);
gboolean vr_cmd_protect(const VrCli *cli, GError **error);
gboolean vr_cmd_unprotect(const VrCli *cli, GError **error);
gboolean vr_cmd_release(const VrCli *cli, GError **error);
gboolean vr_cmd_plan(const VrCli *cli, GError **error);
gboolean vr_cmd_upgrade(const VrCli *cli, GError **error);
gboolean vr_cmd_reimage(const VrCli *cli, GError **error);
gboolean vr_cmd_apply(const VrCli *cli, GError **error);
gboolean vr_cmd_rollback(const VrCli *cli, GError **error);
gboolean vr_cmd_triggers(const VrCli *cli, GError **error);
gboolean vr_cmd_status(const VrCli *cli, GError **error);
gboolean vr_cmd_instance_view(const VrCli *cli, GError **error);
gboolean vr_cmd_history(const VrCli *cli, GError **error);
gboolean vr_cmd_metrics(const VrCli *cli, GError **error);
gboolean vr_cmd_notices(const VrCli *cli, GError **error);
gboolean vr_cmd_gc(const VrCli *cli, GError **error);
gboolean vr_cmd_generations(const VrCli *cli, GError **error);
gboolean vr_cmd_retry(const VrCli *cli, GError **error);
gboolean vr_cmd_pause(const VrCli *cli, GError **error);
gboolean vr_cmd_resume(const VrCli *cli, GError **error);
gboolean vr_cmd_cancel(const VrCli *cli, GError **error);
gboolean vr_cmd_walk(const VrCli *cli, GError **error);
gboolean vr_cmd_promote(const VrCli *cli, GError **error);
gboolean vr_cmd_approve(const VrCli *cli, GError **error);
gboolean vr_cmd_recover(const VrCli *cli, GError **error);
gboolean vr_recover_rebuild(const VrCli *cli, GError **error); /* recover --rebuild */
gboolean vr_cmd_doctor(const VrCli *cli, GError **error);
