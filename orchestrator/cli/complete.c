/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "orchestrator/cli/complete.h"

#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/time.h>
#include <unistd.h>

/* Somebody waits with a finger on a key. */
#define LIMIT_US 1500000

/* --- what is typed ----------------------------------------------------------------------------------- */

static gboolean find_option(const VrCompletion *completion, const char *word, VrCliOptionText *option)
{
    gboolean is_long = g_str_has_prefix(word, "--");
    gsize length = strcspn(word, "=");

    for (guint i = 0; vr_cli_option_text(i, option); i++) {
        if (completion->command ? !vr_cli_option_fits(option, completion->command) : option->bit != 0)
            continue;
        if (is_long ? strlen(option->name) == length - 2 && strncmp(option->name, word + 2, length - 2) == 0
                    : option->letter != 0 && word[1] == option->letter)
            return TRUE;
    }
    return FALSE;
}

static void take_value(VrCompletion *completion, const VrCliOptionText *option, const char *value)
{
    if (g_str_equal(option->name, "root"))
        completion->root = value;
    else if (g_str_equal(option->name, "connect"))
        completion->uri = value;
}

/* TRUE: the next word is its value, of the option that is left in completion->option. */
static gboolean take_option(VrCompletion *completion, const char *word)
{
    VrCliOptionText option;
    const char *value;

    if (!find_option(completion, word, &option) || !option.value)
        return FALSE;
    value = g_str_has_prefix(word, "--") ? strchr(word, '=') : word[2] ? word + 1 : NULL;
    completion->option = option;
    if (value)
        take_value(completion, &option, value + 1);
    return !value;
}

static void take_argument(VrCompletion *completion, const char *word)
{
    if (completion->named) {
        g_ptr_array_add(completion->arguments, (gpointer)word);
        return;
    }
    completion->named = TRUE;
    completion->command = vr_cli_command_find(word);
}

static void take_words(VrCompletion *completion)
{
    gboolean wants_value = FALSE;

    for (guint i = 0; i < completion->n_words; i++) {
        const char *word = completion->words[i];
        if (wants_value) {
            take_value(completion, &completion->option, word);
            wants_value = FALSE;
        } else if (!completion->only_arguments && g_str_equal(word, "--")) {
            completion->only_arguments = TRUE;
        } else if (!completion->only_arguments && word[0] == '-' && word[1]) {
            wants_value = take_option(completion, word);
        } else {
            take_argument(completion, word);
        }
    }
    if (!wants_value)
        completion->option.name = NULL;
}

/* "--version=1." is an option and its value. */
static char *take_current(VrCompletion *completion, const char *word)
{
    const char *equals = strchr(word, '=');
    char *prefix = NULL;

    completion->current = word;
    completion->prefix = "";
    if (completion->option.name || completion->only_arguments || !g_str_has_prefix(word, "--") || !equals ||
        !find_option(completion, word, &completion->option))
        return NULL;
    prefix = g_strndup(word, (gsize)(equals + 1 - word));
    completion->current = equals + 1;
    completion->prefix = prefix;
    return prefix;
}

/* --- what it may be ---------------------------------------------------------------------------------- */

static void add_commands(GPtrArray *found)
{
    for (const VrCliCommand *command = vr_cli_commands; command->name; command++)
        if (command->group != VR_GROUP_HIDDEN)
            g_ptr_array_add(found, g_strdup(command->name));
}

static gboolean is_given(const VrCompletion *completion, const char *option)
{
    for (guint i = 0; i < completion->n_words; i++)
        if (g_str_has_prefix(completion->words[i], option) &&
            (completion->words[i][strlen(option)] == 0 || completion->words[i][strlen(option)] == '='))
            return TRUE;
    return FALSE;
}

static void add_options(const VrCompletion *completion, GPtrArray *found)
{
    VrCliOptionText option;

    for (guint i = 0; vr_cli_option_text(i, &option); i++) {
        g_autofree char *text = g_strconcat("--", option.name, NULL);
        gboolean fits =
            completion->command ? vr_cli_option_fits(&option, completion->command) : option.bit == 0 && option.text;
        if (fits && (option.repeats || !is_given(completion, text)))
            g_ptr_array_add(found, g_steal_pointer(&text));
    }
    if (!completion->named)
        g_ptr_array_add(found, g_strdup("--version"));
}

/* The part of a synopsis that stands for argument `index`: "SET INSTANCE…|--all" has SET, and INSTANCE…|--all for all others. Free with
 * g_free; NULL: there is none. */
static char *part_of(const char *synopsis, guint index)
{
    g_auto(GStrv) parts = g_strsplit(synopsis, " ", -1);
    guint count = g_strv_length(parts);

    if (index >= count && (count == 0 || !strstr(parts[count - 1], "…")))
        return NULL;
    return g_strdup(parts[MIN(index, count - 1)]);
}

/* "NAME", "[SET…]", "FILE|-", "on|off": names in capitals stand for something, other words for themselves. */
static void add_part(const VrCompletion *completion, const char *part, GPtrArray *found)
{
    g_auto(GStrv) choices = g_strsplit(part, "|", -1);

    for (guint i = 0; choices[i]; i++) {
        g_autoptr(GString) choice = g_string_new(choices[i]);
        g_string_replace(choice, "…", "", 0);
        g_string_replace(choice, "[", "", 0);
        g_string_replace(choice, "]", "", 0);
        if (g_ascii_isupper(choice->str[0]))
            vr_complete_values(completion, choice->str, found);
        else if (choice->len > 0 && choice->str[0] != '-')
            g_ptr_array_add(found, g_strdup(choice->str));
    }
}

static void add_all(const VrCompletion *completion, GPtrArray *found)
{
    g_autofree char *part = NULL;

    if (completion->option.name) {
        vr_complete_values(completion, completion->option.value ? completion->option.value : "", found);
    } else if (!completion->only_arguments && completion->current[0] == '-') {
        add_options(completion, found);
    } else if (!completion->named) {
        add_commands(found);
        g_ptr_array_add(found, g_strdup("help"));
    } else if (!completion->command) {
        if (completion->arguments->len == 0 && is_given(completion, "help"))
            add_commands(found);
    } else {
        part = part_of(completion->command->synopsis, completion->arguments->len);
        if (part)
            add_part(completion, part, found);
    }
}

/* One that a shell would take for two is not offered: a name with a control character. */
static gboolean fits(const VrCompletion *completion, const char *text)
{
    if (g_str_equal(text, VR_COMPLETE_FILE) || g_str_equal(text, VR_COMPLETE_DIRECTORY))
        return TRUE;
    for (const char *at = text; *at; at++)
        if ((guchar)*at < 0x20 || *at == 0x7f)
            return FALSE;
    return text[0] != ':' && g_str_has_prefix(text, completion->current);
}

static int by_name(gconstpointer a, gconstpointer b)
{
    return strcmp(*(const char *const *)a, *(const char *const *)b);
}

static void give_up(int number)
{
    _exit(0);
}

/* Whatever we wait for: a lock on the database, a disk that hangs. */
static void set_limit(void)
{
    const struct itimerval limit = {
        .it_value = {.tv_sec = LIMIT_US / G_USEC_PER_SEC, .tv_usec = LIMIT_US % G_USEC_PER_SEC}};
    const struct sigaction action = {.sa_handler = give_up};

    (void)sigaction(SIGALRM, &action, NULL);
    (void)setitimer(ITIMER_REAL, &limit, NULL);
}

static void clear(VrCompletion *completion)
{
    g_clear_pointer(&completion->arguments, g_ptr_array_unref);
}
G_DEFINE_AUTO_CLEANUP_CLEAR_FUNC(VrCompletion, clear)

static VrCompletion read_words(char **words)
{
    guint count = g_strv_length(words);
    VrCompletion completion = {
        .words = (const char *const *)words, .n_words = count > 0 ? count - 1 : 0, .arguments = g_ptr_array_new()};

    take_words(&completion);
    return completion;
}

void vr_complete_begin(VrCliOptions *options, char **words)
{
    g_auto(VrCompletion) completion = read_words(words);
    const char *root = completion.root;

    set_limit();
    options->quiet = TRUE;
    if (completion.uri && *completion.uri && !options->uri)
        options->uri = g_strdup(completion.uri);
    if (root && g_str_has_prefix(root, "~/") && !options->root) /* a shell would have said it */
        options->root = g_build_filename(g_get_home_dir(), root + 2, NULL);
    else if (root && *root && !options->root)
        options->root = g_strdup(root);
}

gboolean vr_complete_is_ours(const VrCli *cli)
{
    g_autofree char *path = g_build_filename(cli->options.root, "state.db", NULL);

    return cli->command->run == vr_cmd_complete && access(path, R_OK) == 0;
}

gboolean vr_cmd_complete(const VrCli *cli, GError **error)
{
    g_auto(VrCompletion) completion = read_words(cli->args);
    g_autoptr(GPtrArray) found = g_ptr_array_new_with_free_func(g_free);
    g_autofree char *prefix = take_current(&completion, cli->args[cli->n_args - 1]);

    completion.cli = cli;
    add_all(&completion, found);
    g_ptr_array_sort(found, by_name);
    for (guint i = 0; i < found->len; i++)
        if (fits(&completion, found->pdata[i]) && (i == 0 || !g_str_equal(found->pdata[i], found->pdata[i - 1])))
            printf("%s%s\n", ((const char *)found->pdata[i])[0] == ':' ? "" : completion.prefix,
                   (const char *)found->pdata[i]);
    return TRUE;
}
