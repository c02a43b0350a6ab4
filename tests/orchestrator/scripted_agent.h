/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* A guest's agent with files in memory, and programs that are functions of the test. */
#pragma once

#include <glib.h>
#include <jansson.h>
#include <pthread.h>
#include <string.h>

/* What a program ends with; *out (may be left) is what it says. */
typedef int (*ScriptedProgram)(const char *path, const char **out, void *data);

typedef struct {
    pthread_mutex_t lock;
    GHashTable *files; /* path -> text, both owned */
    char *open_path;   /* of the one handle */
    ScriptedProgram program;
    void *data;
    gboolean silent; /* it answers nothing */
    int status;      /* of the last program */
    const char *out;
    char *list; /* of files, the last that was asked for */
} ScriptedAgent;

static inline ScriptedAgent *scripted_agent_new(void)
{
    ScriptedAgent *agent = g_new0(ScriptedAgent, 1);

    pthread_mutex_init(&agent->lock, NULL);
    agent->files = g_hash_table_new_full(g_str_hash, g_str_equal, g_free, g_free);
    return agent;
}

static inline void scripted_agent_free(ScriptedAgent *agent)
{
    g_hash_table_unref(agent->files);
    g_free(agent->open_path);
    g_free(agent->list);
    pthread_mutex_destroy(&agent->lock);
    g_free(agent);
}

/* NULL: there is none. Free with g_free. */
static inline char *scripted_agent_file(ScriptedAgent *agent, const char *path)
{
    pthread_mutex_lock(&agent->lock);
    char *text = g_strdup(g_hash_table_lookup(agent->files, path));
    pthread_mutex_unlock(&agent->lock);
    return text;
}

/* text NULL: it is removed. */
static inline void scripted_agent_put(ScriptedAgent *agent, const char *path, const char *text)
{
    pthread_mutex_lock(&agent->lock);
    if (text)
        g_hash_table_insert(agent->files, g_strdup(path), g_strdup(text));
    else
        g_hash_table_remove(agent->files, path);
    pthread_mutex_unlock(&agent->lock);
}

static inline json_t *scripted_write(ScriptedAgent *agent, const char *base64)
{
    const char *before = g_hash_table_lookup(agent->files, agent->open_path);
    gsize length;
    g_autofree char *data = (char *)g_base64_decode(base64, &length);
    g_autofree char *text = g_strndup(data, length);

    g_hash_table_insert(agent->files, g_strdup(agent->open_path), g_strconcat(before, text, NULL));
    return json_pack("{s:i, s:b}", "count", (int)length, "eof", 0);
}

static inline json_t *scripted_open(ScriptedAgent *agent, const char *path, const char *mode)
{
    if (mode[0] == 'r' && !g_hash_table_contains(agent->files, path))
        return NULL;
    if (mode[0] == 'w')
        g_hash_table_insert(agent->files, g_strdup(path), g_strdup(""));
    g_free(agent->open_path);
    agent->open_path = g_strdup(path);
    return json_integer(1000);
}

static inline json_t *scripted_read(ScriptedAgent *agent)
{
    const char *text = g_hash_table_lookup(agent->files, agent->open_path);
    g_autofree char *base64 = g_base64_encode((const guchar *)text, strlen(text));

    return json_pack("{s:i, s:s, s:b}", "count", (int)strlen(text), "buf-b64", base64, "eof", 1);
}

static inline json_t *scripted_status(const ScriptedAgent *agent)
{
    g_autofree char *base64 = g_base64_encode((const guchar *)agent->out, strlen(agent->out));

    return json_pack("{s:b, s:i, s:s}", "exited", 1, "exitcode", agent->status, "out-data", base64);
}

static inline gboolean scripted_is_asked_for(const json_t *argv, const char *path, const char **asked)
{
    for (gsize i = 3; i < json_array_size(argv); i++) {
        gsize length = strlen(*asked = json_string_value(json_array_get(argv, i)));
        if (strncmp(path, *asked, length) == 0 && (path[length] == '\0' || path[length] == '/'))
            return TRUE;
    }
    return FALSE;
}

/* As hv/guest_files.c asks for it; what has other bytes has another time. */
static inline char *scripted_list(ScriptedAgent *agent, const json_t *argv)
{
    GString *text = g_string_new(NULL);
    GList *paths = g_list_sort(g_hash_table_get_keys(agent->files), (GCompareFunc)strcmp);
    const char *asked;

    for (GList *path = paths; path; path = path->next) {
        const char *bytes = g_hash_table_lookup(agent->files, path->data);
        if (!scripted_is_asked_for(argv, path->data, &asked))
            continue;
        if (strcmp(path->data, asked) != 0)
            g_string_append_printf(text, "41ed 0 0 0 1 d t z d t z %s\n", asked);
        g_string_append_printf(text, "8180 33 4 %zu 1 d t z d %u z %s\n", strlen(bytes), g_str_hash(bytes),
                               (char *)path->data);
    }
    g_list_free(paths);
    return g_string_free(g_string_append(text, ".\n"), FALSE);
}

static inline json_t *scripted_exec(ScriptedAgent *agent, const char *path, const json_t *argv)
{
    const char *script = json_string_value(json_array_get(argv, 1));

    g_clear_pointer(&agent->list, g_free);
    agent->out = "";
    if (script && strstr(script, "find "))
        agent->out = agent->list = scripted_list(agent, argv);
    agent->status = agent->list ? 0 : agent->program(path, &agent->out, agent->data);
    return json_pack("{s:i}", "pid", 7);
}

static inline json_t *scripted_do(ScriptedAgent *agent, const char *name, const json_t *arguments)
{
    const char *path = json_string_value(json_object_get(arguments, "path"));

    if (g_str_equal(name, "guest-file-open"))
        return scripted_open(agent, path, json_string_value(json_object_get(arguments, "mode")));
    if (g_str_equal(name, "guest-file-write"))
        return scripted_write(agent, json_string_value(json_object_get(arguments, "buf-b64")));
    if (g_str_equal(name, "guest-file-read"))
        return scripted_read(agent);
    if (g_str_equal(name, "guest-exec-status"))
        return scripted_status(agent);
    if (g_str_equal(name, "guest-exec"))
        return scripted_exec(agent, path, json_object_get(arguments, "arg"));
    return json_object(); /* ping, flush, close */
}

/* As FakeHv's agent. */
static inline char *scripted_agent_answer(const char *command, void *data)
{
    ScriptedAgent *agent = data;
    json_t *asked = json_loads(command, 0, NULL), *value, *answer;
    char *text, *copy;

    if (agent->silent) {
        json_decref(asked);
        return g_strdup("");
    }
    pthread_mutex_lock(&agent->lock);
    value =
        scripted_do(agent, json_string_value(json_object_get(asked, "execute")), json_object_get(asked, "arguments"));
    pthread_mutex_unlock(&agent->lock);
    answer = value ? json_pack("{s:o}", "return", value)
                   : json_pack("{s:{s:s}}", "error", "desc", "No such file or directory");
    text = json_dumps(answer, JSON_COMPACT);
    copy = g_strdup(text);
    free(text);
    json_decref(answer);
    json_decref(asked);
    return copy;
}
