/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "orchestrator/host_agent.h"

#include "base/clock.h"
#include "base/error.h"
#include "orchestrator/extension_guest.h"

#include <errno.h>
#include <fcntl.h>
#include <jansson.h>
#include <signal.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>

#define BOOT_ID 1000000 /* its handle */

typedef struct {
    pid_t pid;
    int out, err;
    GString *out_text, *err_text;
    gboolean reaped, out_ended, err_ended;
    int status;
} Child;

static void child_free(gpointer data)
{
    Child *child = data;

    close(child->out);
    close(child->err);
    g_string_free(child->out_text, TRUE);
    g_string_free(child->err_text, TRUE);
    g_free(child);
}

static int input_of(const json_t *arguments)
{
    const char *text = json_string_value(json_object_get(arguments, "input-data"));
    gsize length = 0;
    g_autofree guchar *bytes = text && *text ? g_base64_decode(text, &length) : NULL;
    int fd = memfd_create("input", MFD_CLOEXEC);

    g_assert_cmpint(write(fd, bytes, length), ==, (gssize)length);
    lseek(fd, 0, SEEK_SET);
    return fd;
}

/* This host's /run is its own. */
static void add_word(GStrvBuilder *builder, const HostAgent *agent, const char *word)
{
    g_auto(GStrv) parts = g_strsplit(word, VR_EXTENSION_DIR, -1);
    g_autofree char *here = g_strjoinv(agent->run_dir, parts);

    g_strv_builder_add(builder, here);
}

static char **argv_of(const HostAgent *agent, const json_t *arguments)
{
    g_autoptr(GStrvBuilder) builder = g_strv_builder_new();
    const json_t *rest = json_object_get(arguments, "arg");

    add_word(builder, agent, json_string_value(json_object_get(arguments, "path")));
    for (gsize i = 0; i < json_array_size(rest); i++)
        add_word(builder, agent, json_string_value(json_array_get(rest, i)));
    return g_strv_builder_end(builder);
}

static char *answer_exec(HostAgent *agent, const json_t *arguments)
{
    g_auto(GStrv) argv = argv_of(agent, arguments);
    int out[2], err[2], input = input_of(arguments);
    Child *child = g_new0(Child, 1);

    g_assert_cmpint(pipe2(out, O_CLOEXEC), ==, 0);
    g_assert_cmpint(pipe2(err, O_CLOEXEC), ==, 0);
    child->pid = fork();
    if (child->pid == 0) {
        dup2(input, 0);
        dup2(out[1], 1);
        dup2(err[1], 2);
        execv(argv[0], argv);
        _exit(127);
    }
    close(input);
    close(out[1]);
    close(err[1]);
    child->out = out[0];
    child->err = err[0];
    fcntl(child->out, F_SETFL, O_NONBLOCK);
    fcntl(child->err, F_SETFL, O_NONBLOCK);
    child->out_text = g_string_new(NULL);
    child->err_text = g_string_new(NULL);
    g_hash_table_insert(agent->children, GINT_TO_POINTER(child->pid), child);
    return g_strdup_printf("{\"return\": {\"pid\": %d}}", (int)child->pid);
}

static gboolean drain(int fd, GString *text)
{
    char block[4096];
    ssize_t got;

    while ((got = read(fd, block, sizeof(block))) > 0)
        g_string_append_len(text, block, got);
    return got == 0;
}

/* As QEMU's: it has ended when nobody holds its output any more. */
static char *answer_status(HostAgent *agent, const json_t *arguments, GError **error)
{
    int pid = (int)json_integer_value(json_object_get(arguments, "pid"));
    Child *child = g_hash_table_lookup(agent->children, GINT_TO_POINTER(pid));
    g_autofree char *out = NULL, *err = NULL, *text = NULL;

    if (!child) {
        g_set_error_literal(error, VR_ERROR, VR_ERROR_AGENT, "Invalid parameter 'pid'");
        return NULL;
    }
    child->reaped = child->reaped || waitpid(child->pid, &child->status, WNOHANG) == child->pid;
    child->out_ended = child->out_ended || drain(child->out, child->out_text);
    child->err_ended = child->err_ended || drain(child->err, child->err_text);
    if (!child->reaped || !child->out_ended || !child->err_ended)
        return g_strdup("{\"return\": {\"exited\": false}}");
    out = g_base64_encode((const guchar *)child->out_text->str, child->out_text->len);
    err = g_base64_encode((const guchar *)child->err_text->str, child->err_text->len);
    text = g_strdup_printf("{\"return\": {\"exited\": true, \"%s\": %d, \"out-data\": \"%s\", \"err-data\": \"%s\"}}",
                           WIFSIGNALED(child->status) ? "signal" : "exitcode",
                           WIFSIGNALED(child->status) ? WTERMSIG(child->status) : WEXITSTATUS(child->status), out, err);
    g_hash_table_remove(agent->children, GINT_TO_POINTER(pid));
    return g_steal_pointer(&text);
}

static char *answer_bytes(const char *bytes, gsize length, gboolean eof)
{
    g_autofree char *base64 = g_base64_encode((const guchar *)bytes, length);

    return g_strdup_printf("{\"return\": {\"count\": %zu, \"buf-b64\": \"%s\", \"eof\": %s}}", length, base64,
                           eof ? "true" : "false");
}

/* The boot id is a guest's of its own; all other files are this host's. */
static char *answer_open(const json_t *arguments, GError **error)
{
    const char *path = json_string_value(json_object_get(arguments, "path"));
    int fd = g_str_has_suffix(path, "/boot_id") ? BOOT_ID : open(path, O_RDONLY | O_CLOEXEC);

    if (fd >= 0)
        return g_strdup_printf("{\"return\": %d}", fd);
    g_set_error(error, VR_ERROR, VR_ERROR_AGENT, "failed to open file '%s'", path);
    return NULL;
}

static char *answer_read(const HostAgent *agent, const json_t *arguments)
{
    int fd = (int)json_integer_value(json_object_get(arguments, "handle"));
    gsize count = (gsize)json_integer_value(json_object_get(arguments, "count"));
    g_autofree char *bytes = g_malloc(count);
    ssize_t got = fd == BOOT_ID ? 0 : read(fd, bytes, count);

    return fd == BOOT_ID ? answer_bytes(agent->boot_id, strlen(agent->boot_id), TRUE)
                         : answer_bytes(bytes, (gsize)MAX(got, 0), got <= 0);
}

static char *answer_close(const json_t *arguments)
{
    int fd = (int)json_integer_value(json_object_get(arguments, "handle"));

    if (fd != BOOT_ID)
        close(fd);
    return g_strdup("{\"return\": {}}");
}

static gboolean is_there(HostAgent *agent, GError **error)
{
    if (vr_clock_now_ms() < agent->away_until) {
        g_set_error_literal(error, VR_ERROR, VR_ERROR_DISCONNECTED, "libvirt is away");
        g_usleep(50000);
    } else if (agent->off || agent->silent > 0) {
        agent->silent -= agent->silent > 0 ? 1 : 0;
        g_set_error_literal(error, VR_ERROR, VR_ERROR_AGENT, "nobody answers");
    } else {
        return TRUE;
    }
    return FALSE;
}

char *host_agent_answer(HostAgent *agent, const char *command, GError **error)
{
    json_t *root;
    const char *name;
    char *answer;

    g_ptr_array_add(agent->asked, g_strdup(command));
    if (agent->before)
        agent->before(command, agent->data);
    if (!is_there(agent, error))
        return NULL;
    root = json_loads(command, 0, NULL);
    name = json_string_value(json_object_get(root, "execute"));
    if (g_str_equal(name, "guest-exec"))
        answer = answer_exec(agent, json_object_get(root, "arguments"));
    else if (g_str_equal(name, "guest-exec-status"))
        answer = answer_status(agent, json_object_get(root, "arguments"), error);
    else if (g_str_equal(name, "guest-file-open"))
        answer = answer_open(json_object_get(root, "arguments"), error);
    else if (g_str_equal(name, "guest-file-read"))
        answer = answer_read(agent, json_object_get(root, "arguments"));
    else if (g_str_equal(name, "guest-file-close"))
        answer = answer_close(json_object_get(root, "arguments"));
    else
        answer = g_strdup("{\"return\": {}}");
    json_decref(root);
    return answer;
}

static char *op_agent(VrHv *hv, const char *uuid, const char *command, int timeout_s, GError **error)
{
    return host_agent_answer((HostAgent *)hv, command, error);
}

static gboolean op_info(VrHv *hv, const char *uuid, VrDomainInfo *info, GError **error)
{
    const HostAgent *agent = (const HostAgent *)hv;

    memset(info, 0, sizeof(*info));
    info->state = agent->off ? VR_DOMAIN_OFF : VR_DOMAIN_RUNNING;
    return TRUE;
}

HostAgent *host_agent_new(const char *run_dir)
{
    static const VrHvOps ops = {.agent = op_agent, .info = op_info};
    HostAgent *agent = g_new0(HostAgent, 1);

    agent->hv.ops = &ops;
    agent->run_dir = run_dir;
    agent->asked = g_ptr_array_new_with_free_func(g_free);
    agent->children = g_hash_table_new_full(NULL, NULL, NULL, child_free);
    agent->boot_id = "bbbbbbbb-bbbb-4bbb-8bbb-bbbbbbbbbbbb";
    return agent;
}

void host_agent_forget(HostAgent *agent)
{
    g_hash_table_remove_all(agent->children);
}

void host_agent_free(HostAgent *agent)
{
    GHashTableIter all;
    gpointer pid;

    if (!agent)
        return;
    g_hash_table_iter_init(&all, agent->children);
    while (g_hash_table_iter_next(&all, &pid, NULL))
        kill(-GPOINTER_TO_INT(pid), SIGKILL);
    g_hash_table_unref(agent->children);
    g_ptr_array_unref(agent->asked);
    g_free(agent);
}

char *host_agent_argv(const HostAgent *agent)
{
    GString *text = g_string_new(NULL);

    for (guint i = 0; i < agent->asked->len; i++) {
        json_t *root = json_loads(agent->asked->pdata[i], 0, NULL);
        json_t *arguments = json_object_get(root, "arguments");
        char *dump;

        json_object_del(arguments, "input-data");
        dump = json_dumps(root, JSON_COMPACT);
        g_string_append_printf(text, "%s\n", dump);
        free(dump);
        json_decref(root);
    }
    return g_string_free(text, FALSE);
}
