/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "orchestrator/cli/advise.h"

#include "base/error.h"

#include <string.h>

/* The set that the command was about; NULL: it was about none. */
static const char *set_of(const VrCli *cli)
{
    gboolean takes_one =
        g_str_has_prefix(cli->command->synopsis, "SET") || g_str_has_prefix(cli->command->synopsis, "[SET");

    return takes_one && cli->n_args > 0 ? cli->args[0] : NULL;
}

/* A model's faults have the code of a command line's. */
static gboolean reads_model(const VrCli *cli)
{
    return g_str_equal(cli->command->name, "set-define") && cli->n_args > 0;
}

/* As a shell takes it; NULL: it has bytes that are not shown, and so nobody could type it. */
static char *typed(const char *file)
{
    g_autofree char *shown = vr_printable(file, -1);

    return g_str_equal(shown, file) ? g_shell_quote(file) : NULL;
}

/* Of a file that was given, and not of an answer or of what the store has. */
static void advise_invalid(const VrCli *cli, GError **error)
{
    const char *name = cli->command->name;
    g_autofree char *file = reads_model(cli) && !g_str_equal(cli->args[0], "-") ? typed(cli->args[0]) : NULL;

    if (file) {
        vr_error_next(error, "correct it there; \"%s set-define --dry-run %s\" says whether it is right now",
                      VR_PROGRAM, file);
    } else if (reads_model(cli)) {
        vr_error_next(error, "correct it and give it again; with --dry-run it is only looked at");
    } else if (cli->command->group == VR_GROUP_IMAGES) {
        vr_error_next(error, "'%s %s --help' says what it takes", VR_PROGRAM, name);
    }
}

/* The file that the command line names; NULL: none. */
static const char *file_of(const VrCli *cli)
{
    static const struct {
        const char *command;
        int argument;
    } takes[] = {{"image-check", 0}, {"image-publish", 2}, {"set-define", 0}};

    for (guint i = 0; i < G_N_ELEMENTS(takes); i++)
        if (g_str_equal(cli->command->name, takes[i].command) && (int)cli->n_args > takes[i].argument)
            return cli->args[takes[i].argument];
    return NULL;
}

static gboolean is_on_the_web(const char *file)
{
    g_autofree char *scheme = g_uri_parse_scheme(file);

    return g_strcmp0(scheme, "http") == 0 || g_strcmp0(scheme, "https") == 0 || g_strcmp0(scheme, "ftp") == 0;
}

/* Where the error is about it. */
static void advise_file(const VrCli *cli, GError **error)
{
    const char *file = file_of(cli);

    if (file && !g_str_equal(file, "-") && strstr((*error)->message, file)) {
        g_autofree char *quoted = typed(file);
        if (quoted && is_on_the_web(file))
            vr_error_next(error, "nothing is downloaded here: \"curl -fLO %s\" does, and then name the file", quoted);
        else if (quoted)
            vr_error_next(error, "ls -ld %s shows whether it is there, and who may read it", quoted);
    }
}

/* An image that the check refuses: the reason is said, and what it takes is for its maker to do. */
static void advise_refused(const VrCli *cli, GError **error)
{
    const char *file = file_of(cli);

    if (file && cli->command->group == VR_GROUP_IMAGES)
        vr_error_next(
            error,
            "make it anew, raw or qcow2 and without a backing file, as 'qemu-img convert -O qcow2 OLD NEW.qcow2' "
            "does; '%s image-check FILE' says whether it is right, and changes nothing",
            VR_PROGRAM);
}

static void advise(const VrCli *cli, GError **error)
{
    const char *set = cli->args ? set_of(cli) : NULL;

    switch (vr_error_code(*error)) {
    case VR_ERROR_USAGE:
        if (reads_model(cli))
            advise_invalid(cli, error);
        vr_error_next(error, "'%s %s --help' says what it takes", VR_PROGRAM, cli->command->name);
        break;
    case VR_ERROR_INVALID:
        advise_invalid(cli, error);
        break;
    case VR_ERROR_NOT_FOUND:
    case VR_ERROR_IO:
        advise_file(cli, error);
        break;
    case VR_ERROR_REFUSED:
        advise_refused(cli, error);
        break;
    case VR_ERROR_CHILD:
        vr_error_next(error, "'%s doctor' shows whether this host has what is needed", VR_PROGRAM);
        break;
    case VR_ERROR_HYPERVISOR:
        vr_error_next(error, "'journalctl -u libvirtd -u virtqemud -n 50' says more");
        break;
    case VR_ERROR_TIMEOUT:
    case VR_ERROR_AGENT:
        if (set)
            vr_error_next(error, "'%s status %s' shows what is true now", VR_PROGRAM, set);
        break;
    case VR_ERROR_DATABASE:
        vr_error_next(error, "%s", vr_error_code_info(VR_ERROR_DATABASE)->next);
        break;
    case VR_ERROR_NO_SPACE:
        vr_error_next(error, "%s", vr_error_code_info(VR_ERROR_NO_SPACE)->next);
        break;
    default:
        break;
    }
}

/* Commands of this program stand in quotes. One that is only asked for its help needs no store. */
static void name_place(const char *place, VrErrorPart part, GError **error)
{
    g_autoptr(GRegex) command = g_regex_new("(?<=['\"]" VR_PROGRAM ")(?= [a-z])(?! help )(?![^'\"]* --help)",
                                            G_REGEX_DEFAULT, G_REGEX_MATCH_DEFAULT, NULL);
    const char *text = vr_error_part(*error, part);
    g_autofree char *placed =
        text ? g_regex_replace_literal(command, text, -1, 0, place, G_REGEX_MATCH_DEFAULT, NULL) : NULL;

    if (placed)
        vr_error_reword(error, part, placed);
}

void vr_advise(const VrCli *cli, GError **error)
{
    g_autofree char *place = vr_cli_place(&cli->options);

    if (!error || !*error)
        return;
    if (!vr_error_part(*error, VR_ERROR_NEXT))
        advise(cli, error);
    if (*place) {
        name_place(place, VR_ERROR_NOW, error);
        name_place(place, VR_ERROR_NEXT, error);
    }
}

/* What else takes one instance. */
void vr_advise_too_many(const VrCli *cli, GError **error)
{
    static const struct {
        const char *command, *instead, *more, *says;
    } others[] = {{"upgrade", "reimage", " --version VERSION", "gives one instance a new disk of a version"},
                  {"plan", "reimage", " --version VERSION --dry-run", "shows it of one instance"},
                  {"retry", "reimage", "", "gives one instance a new disk"},
                  {"status", "instance-view", "", "shows one instance"},
                  {"set-info", "instance-view", "", "shows one instance"}};

    for (guint i = 0; i < G_N_ELEMENTS(others); i++)
        if (g_str_equal(cli->command->name, others[i].command) && cli->n_args == 2) {
            g_autofree char *set = vr_shell_word(cli->args[0]), *instance = vr_shell_word(cli->args[1]);
            vr_error_next(error, "'%s %s %s %s%s' %s", VR_PROGRAM, others[i].instead, set, instance, others[i].more,
                          others[i].says);
        }
}
