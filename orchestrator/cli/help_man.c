/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * The manual pages that say what tables of the program say: virt-reimage(1) has its commands and options, virt-reimage.conf(5) the keys of the
 * configuration. They are made when the program is built (packaging/man), by the macros of man(7).
 */
#include "base/error.h"
#include "orchestrator/cli/cli.h"
#include "orchestrator/config.h"
#include "orchestrator/http_codes.h"

#include <stdio.h>
#include <string.h>

/* --- text -------------------------------------------------------------------------------------------- */

/* A line that begins with a dot or a quote would be a request; what is not ASCII is named by its number. */
static void put(const char *text)
{
    gboolean at_start = TRUE;

    for (const char *at = text; *at; at = g_utf8_next_char(at)) {
        gunichar c = g_utf8_get_char(at);
        if (at_start && (c == '.' || c == '\''))
            fputs("\\&", stdout);
        if (c == '\\')
            fputs("\\e", stdout);
        else if (c == '-')
            fputs("\\-", stdout);
        else if (c < 0x80)
            fputc((int)c, stdout);
        else
            printf("\\[u%04X]", c);
        at_start = c == '\n';
    }
}

static void put_bold(const char *text)
{
    fputs("\\fB", stdout);
    put(text);
    fputs("\\fR", stdout);
}

static void put_italic(const char *text)
{
    fputs("\\fI", stdout);
    put(text);
    fputs("\\fR", stdout);
}

/* Empty lines part them. */
static void put_paragraphs(const char *text, const char *end)
{
    g_auto(GStrv) paragraphs = g_strsplit(text, "\n\n", -1);

    for (guint i = 0; paragraphs[i]; i++) {
        g_strstrip(paragraphs[i]);
        if (!*paragraphs[i])
            continue;
        fputs(".PP\n", stdout);
        put(paragraphs[i]);
        printf("%s\n", paragraphs[i + 1] ? "" : end);
    }
}

static void put_example(const char *text)
{
    fputs(".PP\n.RS 4\n.EX\n", stdout);
    put(text);
    fputs("\n.EE\n.RE\n", stdout);
}

/* What a term means. */
typedef struct {
    const char *term, *text;
} Entry;

static void put_entries(const Entry *entries, guint count)
{
    for (guint i = 0; i < count; i++) {
        fputs(".TP\n", stdout);
        put_bold(entries[i].term);
        fputc('\n', stdout);
        put(entries[i].text);
        fputs(".\n", stdout);
    }
}

static void put_header(const char *name, const char *section, const char *date, const char *what)
{
    printf(".\\\" Made from the tables of the program (virt-reimage help --man); do not edit.\n");
    printf(".TH %s %s %s \"virt\\-reimage %s\" \"virt\\-reimage\"\n.SH NAME\n", name, section, date, VR_VERSION);
    put(what);
    fputc('\n', stdout);
}

/* --- virt-reimage(1) --------------------------------------------------------------------------------- */

static void put_option(const VrCliOptionText *option)
{
    g_autofree char *name = g_strconcat("--", option->name, NULL);
    char letter[] = {'-', option->letter, '\0'};

    fputs(".TP\n", stdout);
    if (option->letter) {
        put_bold(letter);
        fputs(", ", stdout);
    }
    put_bold(name);
    if (option->value) {
        fputc(' ', stdout);
        put_italic(option->value);
    }
    fputc('\n', stdout);
    put(option->text);
    fputs(".\n", stdout);
}

static void put_options(const VrCliCommand *command)
{
    VrCliOptionText option;

    for (guint i = 0; vr_cli_option_text(i, &option); i++)
        if (command ? vr_cli_option_fits(&option, command) && (option.bit != 0 || g_str_equal(option.name, "json"))
                    : option.bit == 0 && option.text)
            put_option(&option);
}

static void put_command(const VrCliCommand *command)
{
    g_autofree char *example = g_strconcat(VR_PROGRAM, " ", command->example, NULL);

    fputs(".TP\n", stdout);
    put_bold(command->name);
    if (*command->synopsis) {
        fputc(' ', stdout);
        put_italic(command->synopsis);
    }
    fputc('\n', stdout);
    put(command->summary);
    fputs(".\n.RS\n", stdout);
    put_paragraphs(command->details, "");
    put_options(command);
    put_example(example);
    fputs(".RE\n", stdout);
}

static void put_commands(void)
{
    fputs(".SH COMMANDS\nEach takes the global options too. Arguments in square brackets may be left out.\n", stdout);
    for (guint group = 0; group < VR_GROUP_LAST_; group++) {
        printf(".SS %s\n", vr_cli_group_name(group));
        for (const VrCliCommand *command = vr_cli_commands; command->name; command++)
            if (command->group == group)
                put_command(command);
    }
}

static const Entry statuses[] = {
    {"0", "done"},
    {"1", "failed"},
    {"2", "the command line is wrong"},
    {"3", "stopped by the policy of the set"},
    {"4", "refused by a check before anything was touched, or what was named is not there"},
    {"5", "another run owns the set"},
    {"6", "done, but some instances failed and were restored"},
    {"7", "the outcome for an instance is not known: a person must look"},
};

static const Entry files[] = {
    {"/var/lib/virt-reimage", "the store of qemu:///system: images, OS disks, and what is known of them in state.db"},
    {"$XDG_DATA_HOME/virt-reimage", "that of qemu:///session"},
    {"ROOT/run/SET/log", "what a run says that goes on by itself (--detach)"},
    {"/etc/virt-reimage/virt-reimage.conf",
     "the configuration of the daemon, of notices and of metrics (virt-reimage.conf(5))"},
    {"/etc/virt-reimage/keys.d", "the minisign keys whose signatures of images count"},
    {"/run/virt-reimage", "the sockets of virt-reimaged(8)"},
};

static const Entry environment[] = {
    {"LIBVIRT_DEFAULT_URI", "libvirt to talk to where --connect does not say it"},
    {"XDG_DATA_HOME", "where the store of a session lies"},
    {"VISUAL, EDITOR", "the editor of set-edit"},
    {"NO_COLOR", "not empty: the view of a run on a terminal has no colours"},
    {"SUDO_USER", "who is named in the history as having begun a run, where sudo has set it"},
    {"VIRT_REIMAGE_CONF", "another file than /etc/virt-reimage/virt-reimage.conf"},
    {"VIRT_REIMAGE_SOCKET_DIR", "where the sockets of the daemon are; empty: it is never asked"},
    {"VIRT_REIMAGE_DEBUG", "1: as --debug"},
};

/* kind: "exit" or "HTTP" */
static void put_code(const char *name, const char *kind, int status, const char *meaning, const char *next)
{
    fputs(".TP\n", stdout);
    put_bold(name);
    printf(" (%s status %d)\n", kind, status);
    put(meaning);
    fputs(".\n.br\n", stdout);
    put(next);
    fputs(".\n", stdout);
}

static void put_codes(void)
{
    for (int code = 0; code < VR_ERROR_LAST_; code++) {
        const VrErrorCodeInfo *info = vr_error_code_info(code);
        put_code(info->name, "exit", info->exit_status, info->meaning, info->next);
    }
    put_paragraphs("An answer over HTTP may have one of these instead, which are about the request:", "");
    for (int code = 0; code < VR_HTTP_CODES_; code++) {
        const VrHttpCodeInfo *info = vr_http_code_info((VrHttpCode)code);
        put_code(info->name, "HTTP", info->status, info->meaning, info->next);
    }
}

static void put_errors(void)
{
    fputs(".SH ERRORS\n", stdout);
    put("An error goes to standard error in up to four lines: what was being done and to which object, what is true "
        "now,\n"
        "what to type next, and the cause in the words of libvirt, the kernel or a program that was called.\n");
    put_example("error: set 'web': run 4f1c (upgrade) is open\n"
                "  now:   its process is gone\n"
                "  next:  'virt-reimage resume web' goes on with it, 'virt-reimage cancel web' ends it");
    put_paragraphs("A command in quotes names the --connect and the --root that were given, so that it is about the "
                   "same guests.\n"
                   "\n"
                   "With --json it is one line of JSON, {\"error\": {\"code\": ..., \"message\": ..., \"what\": ..., "
                   "\"now\": ...,\n"
                   "\"next\": ..., \"cause\": ...}}, where message has all of it and the last three are there when "
                   "they are known.\n"
                   "Answers of the daemon over HTTP have the same keys. These are the codes, and what to do where an "
                   "error does not\n"
                   "say it better:",
                   "");
    put_codes();
}

static void put_page_1(const char *date)
{
    put_header("VIRT\\-REIMAGE", "1", date, "virt-reimage - swap the OS disk of libvirt guests");
    fputs(".SH SYNOPSIS\n\\fBvirt\\-reimage\\fR [\\fIGLOBAL OPTION\\fR...] \\fICOMMAND\\fR [\\fIARGUMENT\\fR...] "
          "[\\fIOPTION\\fR...]\n.SH DESCRIPTION\n",
          stdout);
    put("Swaps the OS disk of libvirt guests and leaves everything else about them as it was. An image version is "
        "published\n"
        "into the store; the guests of a scale set, which a model describes (virt-reimage-set(5)), are moved to it "
        "batch by batch,\n"
        "each on a fresh OS disk, with its data disks attached and its health watched. A guest that does not become "
        "healthy\n"
        "goes back by itself, and the old disks are kept, so that one guest or the whole set can go back later.\n");
    put_paragraphs(
        "Verbs act, as those of virsh do, and none of them means all instances by itself. Every command that changes\n"
        "something takes --dry-run, which says what it would do. Reading commands write nothing. Every mutating one "
        "first\n"
        "finishes or undoes what a crash left open. Errors go to standard error, see ERRORS.",
        "");
    put_paragraphs("Where virt-reimaged(8) serves the libvirt and the store that a command means, it does the command; "
                   "the answer and\n"
                   "the exit status are the same.",
                   "");
    fputs(".SH \"GLOBAL OPTIONS\"\nThey stand before or after the command.\n", stdout);
    put_options(NULL);
    fputs(".TP\n\\fB\\-V\\fR, \\fB\\-\\-version\\fR\nthe version of this program; before the command.\n", stdout);
    put_commands();
    fputs(".SH \"EXIT STATUS\"\n", stdout);
    put_entries(statuses, G_N_ELEMENTS(statuses));
    put_errors();
    fputs(".SH ENVIRONMENT\n", stdout);
    put_entries(environment, G_N_ELEMENTS(environment));
    fputs(".SH FILES\n", stdout);
    put_entries(files, G_N_ELEMENTS(files));
    fputs(".SH \"SEE ALSO\"\n\\fBvirt\\-reimage\\-set\\fR(5), \\fBvirt\\-reimage.conf\\fR(5), "
          "\\fBvirt\\-reimaged\\fR(8), "
          "\\fBvirsh\\fR(1), \\fBqemu\\-img\\fR(1), \\fBminisign\\fR(1)\n",
          stdout);
}

/* --- virt-reimage.conf(5) ---------------------------------------------------------------------------- */

static void put_key(const VrConfigKey *key)
{
    fputs(".TP\n", stdout);
    put_bold(key->key);
    fputc('=', stdout);
    put_italic(key->value);
    fputc('\n', stdout);
    put(key->text);
    if (*key->initial) {
        fputs("; default: ", stdout);
        put(key->initial);
    }
    fputs(".\n", stdout);
}

static void put_keys(void)
{
    const char *group = "";

    for (guint i = 0; vr_config_key(i); i++) {
        const VrConfigKey *key = vr_config_key(i);
        if (!g_str_equal(key->group, group))
            printf(".SS [%s]\n", key->group);
        group = key->group;
        put_key(key);
    }
}

static void put_page_conf(const char *date)
{
    put_header("VIRT\\-REIMAGE.CONF", "5", date, "virt-reimage.conf - configuration of a host with virt-reimage");
    fputs(".SH DESCRIPTION\n", stdout);
    put(VR_CONFIG_DEFAULT_PATH
        " says what the daemon serves, and where notices and metrics go. What a set does stands\n"
        "in its model, see virt-reimage-set(5). It is a key file, as units of systemd are: groups in square brackets,\n"
        "lines of key=value, and comments after #. A file that is not there says nothing, and each key has a default.\n"
        "A group or a key that is not known is refused by name.\n");
    put_paragraphs("It names programs that root runs: so it must be root's, or of the user who runs the program, and "
                   "nobody else may\n"
                   "write to it.",
                   "");
    fputs(".SH KEYS\n", stdout);
    put_keys();
    fputs(".SH EXAMPLE\n.EX\n", stdout);
    put("[drop]\ndirectory=/srv/images/incoming\n\n[metrics]\ntextfile=/var/lib/prometheus/node-exporter/"
        "virt-reimage.prom\n");
    fputs(".EE\n.SH FILES\n", stdout);
    put_bold(VR_CONFIG_DEFAULT_PATH);
    fputs(
        "\n.SH \"SEE ALSO\"\n\\fBvirt\\-reimage\\fR(1), \\fBvirt\\-reimaged\\fR(8), \\fBvirt\\-reimage\\-set\\fR(5)\n",
        stdout);
}

/* ----------------------------------------------------------------------------------------------------- */

gboolean vr_cli_man(const char *page, const char *date, GError **error)
{
    static const struct {
        const char *name;
        void (*put)(const char *date);
    } pages[] = {{"virt-reimage.1", put_page_1}, {"virt-reimage.conf.5", put_page_conf}};

    for (guint i = 0; page && date && i < G_N_ELEMENTS(pages); i++)
        if (g_str_equal(pages[i].name, page)) {
            pages[i].put(date);
            return TRUE;
        }
    g_set_error(error, VR_ERROR, VR_ERROR_USAGE, "usage: %s help --man %s|%s YYYY-MM-DD", VR_PROGRAM, pages[0].name,
                pages[1].name);
    return FALSE;
}
