/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* From argv to the function of a command. */
#include "orchestrator/cli/cli.h"

#include "base/error.h"
#include "base/log.h"
#include "disk/store.h"
#include "hv/preflight.h"
#include "orchestrator/cli/advise.h"
#include "orchestrator/cli/complete.h"
#include "orchestrator/cli/job.h"
#include "orchestrator/cli/notices.h"
#include "orchestrator/cli/remote.h"
#include "orchestrator/cli/who.h"

#include <stdio.h>
#include <unistd.h>

void vr_cli_clear(VrCli *cli)
{
    vr_cli_options_clear(&cli->options);
    g_clear_pointer(&cli->args, g_strfreev);
}

/* Parses and takes out what the context knows; rest[0] stays the program or command. */
static gboolean parse(GOptionContext *context, char ***rest, const char *object, GError **error)
{
    g_autoptr(GError) local = NULL;

    if (g_option_context_parse_strv(context, rest, &local))
        return TRUE;
    g_set_error(error, VR_ERROR, VR_ERROR_USAGE, "%s: %c%s", object ? object : VR_PROGRAM,
                g_ascii_tolower(*local->message), local->message + 1);
    vr_error_next(error, "'%s%s%s --help' shows the options", VR_PROGRAM, object ? " " : "", object ? object : "");
    return FALSE;
}

static gboolean unknown_command(const char *name, GError **error)
{
    const VrCliCommand *nearest = vr_cli_command_nearest(name);

    if (nearest) {
        g_set_error(error, VR_ERROR, VR_ERROR_USAGE, "there is no command '%s'", name);
        vr_error_next(error, "did you mean '%s'?", nearest->name);
    } else {
        g_set_error(error, VR_ERROR, VR_ERROR_USAGE, "there is no command '%s'", name);
        vr_error_next(error, "'%s --help' lists the commands", VR_PROGRAM);
    }
    return FALSE;
}

static gboolean show_help(const char *name, GError **error)
{
    const VrCliCommand *command = name ? vr_cli_command_find(name) : NULL;

    if (name && !command)
        return unknown_command(name, error);
    if (command)
        vr_cli_help_of(command);
    else
        vr_cli_help();
    return TRUE;
}

static gboolean check_count(const VrCli *cli, GError **error)
{
    const VrCliCommand *command = cli->command;

    if (cli->n_args >= command->min_args && cli->n_args <= command->max_args)
        return TRUE;
    g_set_error(error, VR_ERROR, VR_ERROR_USAGE, "%s: %s: usage: %s %s%s%s", command->name,
                cli->n_args < command->min_args ? "an argument is missing" : "too many arguments", VR_PROGRAM,
                command->name, *command->synopsis ? " " : "", command->synopsis);
    if (cli->n_args > command->max_args)
        vr_advise_too_many(cli, error);
    vr_error_next(error, "'%s %s --help' says more", VR_PROGRAM, command->name);
    return FALSE;
}

/* "--" has done its work once the options are parsed. */
static char **without_dashes(char **words)
{
    g_autoptr(GStrvBuilder) builder = g_strv_builder_new();
    gboolean found = FALSE;

    for (char **word = words; *word; word++) {
        if (!found && g_str_equal(*word, "--"))
            found = TRUE;
        else
            g_strv_builder_add(builder, *word);
    }
    return g_strv_builder_end(builder);
}

/* The global options may be ended by one; what stands behind the command is for the command's own parser, to which it says what is no option. */
static char **from_command(char **words)
{
    g_autoptr(GStrvBuilder) builder = g_strv_builder_new();

    for (guint i = 0; words[i]; i++)
        if (i != 1 || !g_str_equal(words[i], "--"))
            g_strv_builder_add(builder, words[i]);
    return g_strv_builder_end(builder);
}

/* What GOption cannot say of a value. */
static gboolean check_values(VrCliOptions *options, GError **error)
{
    if (options->root && !*options->root) {
        g_set_error_literal(error, VR_ERROR, VR_ERROR_USAGE, "--root is empty");
        vr_error_next(error, "name a directory, or leave it out");
        return FALSE;
    }
    if (options->to_generation == VR_GENERATION_NOT_GIVEN || options->to_generation >= 0)
        return TRUE;
    g_set_error(error, VR_ERROR, VR_ERROR_USAGE, "--to-generation %d: generations are numbered from 0",
                options->to_generation);
    return FALSE;
}

static void settle_root(VrCliOptions *options)
{
    const char *uri = options->uri ? options->uri : g_getenv("LIBVIRT_DEFAULT_URI");

    if (!options->root && vr_job_root())
        options->root = g_strdup(vr_job_root());
    if (!options->root)
        options->root = vr_store_default_root(uri);
}

const char *vr_cli_default_uri(void)
{
    return geteuid() == 0 ? "qemu:///system" : "qemu:///session";
}

/* words[0] is the command's name. */
static gboolean run_command(VrCli *cli, char ***words, int *status, GError **error)
{
    g_autoptr(GOptionContext) context = vr_cli_options_of(cli->command, &cli->options);
    gboolean ok;

    if (!cli->command->raw && !parse(context, words, cli->command->name, error))
        return FALSE;
    if (cli->options.help)
        return show_help(cli->command->name, error);
    if (cli->options.json && !(cli->command->options & VR_OPT_JSON)) {
        g_set_error(error, VR_ERROR, VR_ERROR_USAGE, "%s has no answer in JSON", cli->command->name);
        vr_error_next(error, "leave --json out");
        return FALSE;
    }
    cli->args = cli->command->raw ? g_strdupv(*words + 1) : without_dashes(*words + 1);
    cli->n_args = g_strv_length(cli->args);
    if (!check_count(cli, error) || !check_values(&cli->options, error) ||
        !vr_preflight_may_ignore((const char *const *)cli->options.ignore, error))
        return FALSE;
    if (cli->command->raw)
        vr_complete_begin(&cli->options, cli->args);
    if (!vr_job_check(cli, error))
        return FALSE;
    settle_root(&cli->options);
    if (cli->options.debug)
        vr_log_set_level(VR_LOG_DEBUG);
    switch (vr_remote_run(cli, status, error)) {
    case VR_REMOTE_DONE:
        return TRUE;
    case VR_REMOTE_FAILED:
        return FALSE;
    default:
        ok = cli->command->run(cli, error);
        if (!ok)
            vr_who_advise(cli, error);
        vr_notices_leave(cli);
        return ok;
    }
}

static gboolean no_command(GError **error)
{
    g_set_error_literal(error, VR_ERROR, VR_ERROR_USAGE, "no command");
    vr_error_next(error, "'%s --help' lists them", VR_PROGRAM);
    return FALSE;
}

gboolean vr_cli_main(int argc, char **argv, int *status, GError **error)
{
    g_auto(VrCli) cli = {.options = {.to_generation = VR_GENERATION_NOT_GIVEN}, .argv = argv};
    gboolean version = FALSE;
    g_autoptr(GOptionContext) context = vr_cli_options_global(&cli.options, &version);
    g_auto(GStrv) words = g_strdupv(argv);
    g_auto(GStrv) rest = NULL;

    *status = 0;
    if (!parse(context, &words, NULL, error))
        return FALSE;
    rest = from_command(words);
    if (version) {
        printf("%s %s\n", VR_PROGRAM, VR_VERSION);
        return TRUE;
    }
    if (cli.options.help && !rest[1])
        return show_help(NULL, error);
    if (!rest[0] || !rest[1])
        return no_command(error);
    if (g_str_equal(rest[1], "help") && g_strcmp0(rest[2], "--man") == 0)
        return vr_cli_man(rest[3], rest[3] ? rest[4] : NULL, error);
    if (g_str_equal(rest[1], "help"))
        return show_help(rest[2], error);
    cli.command = vr_cli_command_find(rest[1]);
    if (!cli.command)
        return unknown_command(rest[1], error);
    g_auto(GStrv) of_command = g_strdupv(cli.command->raw ? words + 1 : rest + 1);
    if (run_command(&cli, &of_command, status, error))
        return TRUE;
    vr_advise(&cli, error);
    return FALSE;
}
