/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* What the tests of extensions share: a model of scripts, a guest that is this host, and what became of them. */
#pragma once

#include "orchestrator/extension_guest.h"
#include "orchestrator/extensions.h"
#include "orchestrator/host_agent.h"

#include "base/clock.h"
#include "base/error.h"

#include <glib/gstdio.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cmocka.h>

#define OLD_BOOT "aaaaaaaa-aaaa-4aaa-8aaa-aaaaaaaaaaaa"
#define NEW_BOOT "bbbbbbbb-bbbb-4bbb-8bbb-bbbbbbbbbbbb"
#define SECRET "Tr0ub4dor&3 pass word\n"
#define SECRET_WORD "Tr0ub4dor"

typedef struct {
    char *top; /* files of this host, and dir/ of the guest */
    char *dir;
    HostAgent *agent;
    GString *items; /* of the model */
    VrModel *model;
    VrExtensions *extensions;
    GPtrArray *results;  /* VrExtensionResult *, the last of each position */
    GPtrArray *recorded; /* char *: "NAME STATUS", as they came */
    const GPtrArray *known;
    gint aborted;
    gint64 agent_wait_ms;
    gint64 spent_ms;
} Stage;

static inline Stage *stage_new(void)
{
    Stage *stage = g_new0(Stage, 1);
    g_autofree char *made = g_dir_make_tmp("vr-extensions-XXXXXX", NULL);

    stage->top = realpath(made, NULL);
    stage->dir = g_build_filename(stage->top, "run", NULL);
    stage->agent = host_agent_new(stage->dir);
    stage->items = g_string_new(NULL);
    stage->results = g_ptr_array_new_with_free_func((GDestroyNotify)vr_extension_result_free);
    stage->recorded = g_ptr_array_new_with_free_func(g_free);
    stage->agent_wait_ms = 2000;
    return stage;
}

static inline void stage_free(Stage *stage)
{
    g_autofree char *command = g_strdup_printf("rm -rf '%s'", stage->top);

    host_agent_free(stage->agent);
    g_assert_cmpint(g_spawn_command_line_sync(command, NULL, NULL, NULL, NULL), ==, TRUE);
    g_string_free(stage->items, TRUE);
    vr_extensions_free(stage->extensions);
    vr_model_free(stage->model);
    g_ptr_array_unref(stage->results);
    g_ptr_array_unref(stage->recorded);
    free(stage->top);
    g_free(stage->dir);
    g_free(stage);
}
G_DEFINE_AUTOPTR_CLEANUP_FUNC(Stage, stage_free)

static inline char *path_of(const Stage *stage, const char *name)
{
    return g_build_filename(stage->top, name, NULL);
}

static inline char *write_file(const Stage *stage, const char *name, const char *text)
{
    char *path = path_of(stage, name);

    assert_true(g_file_set_contents(path, text, -1, NULL));
    assert_int_equal(chmod(path, 0600), 0);
    return path;
}

static inline char *read_file(const Stage *stage, const char *name)
{
    g_autofree char *path = path_of(stage, name);
    char *text = NULL;

    g_file_get_contents(path, &text, NULL, NULL);
    return text ? text : g_strdup("(none)");
}

/* An extension with a script of that text; @ in it is the directory of the stage. more: other keys, each after ", ". */
static inline void add(Stage *stage, const char *name, const char *text, const char *more)
{
    g_auto(GStrv) parts = g_strsplit(text, "@", -1);
    g_autofree char *here = g_strjoinv(stage->top, parts);
    g_autofree char *path = write_file(stage, name, here);
    g_auto(GStrv) more_parts = g_strsplit(more, "@", -1);
    g_autofree char *keys = g_strjoinv(stage->top, more_parts);

    g_string_append_printf(stage->items, "  - {name: %s, script: %s%s}\n", name, path, keys);
}

static inline void load(Stage *stage)
{
    g_autofree char *text = g_strconcat("name: lab\nimageReference: {name: i}\nextensionProfile:\n  extensions:\n",
                                        stage->items->str, "instances: [{domain: x}]\n", NULL);
    g_autoptr(GError) error = NULL;

    stage->model = vr_model_parse(text, strlen(text), "lab.yaml", &error);
    assert_string_equal(error ? error->message : "", "");
    stage->extensions = vr_extensions_load(stage->model, &error);
    assert_string_equal(error ? error->message : "", "");
}

static inline gboolean record(guint position, const VrExtensionResult *result, void *data, GError **error)
{
    Stage *stage = data;
    VrExtensionResult *copy = g_memdup2(result, sizeof(*result));

    copy->name = g_strdup(result->name);
    copy->text = g_strdup(result->text);
    copy->output = g_strdup(result->output);
    if (position < stage->results->len)
        g_ptr_array_remove_index(stage->results, position);
    g_ptr_array_insert(stage->results, (gint)MIN(position, stage->results->len), copy);
    g_ptr_array_add(stage->recorded, g_strdup_printf("%s %s", result->name, vr_extension_status_name(result->status)));
    return TRUE;
}

/* The reason, or NULL; freed by the caller. */
static inline char *run(Stage *stage)
{
    VrExtensionsRun what = {.hv = &stage->agent->hv,
                            .uuid = "u",
                            .generation = 3,
                            .extensions = stage->extensions,
                            .old_boot_id = OLD_BOOT,
                            .agent_until_ms = vr_clock_now_ms() + stage->agent_wait_ms,
                            .aborted = &stage->aborted,
                            .known = stage->known,
                            .record = record,
                            .data = stage};
    char *reason = NULL;
    gboolean good = vr_extensions_run(&what, &stage->spent_ms, &reason);

    assert_int_equal(good, reason == NULL);
    return reason;
}

static inline void run_well(Stage *stage)
{
    g_autofree char *reason = run(stage);

    assert_string_equal(reason ? reason : "", "");
}

static inline const VrExtensionResult *result_of(const Stage *stage, const char *name)
{
    for (guint i = 0; i < stage->results->len; i++) {
        const VrExtensionResult *result = stage->results->pdata[i];
        if (g_str_equal(result->name, name))
            return result;
    }
    fail_msg("no result of %s", name);
    return NULL;
}

static inline void expect(const Stage *stage, const char *name, VrExtensionStatus status, const char *text)
{
    const VrExtensionResult *result = result_of(stage, name);

    if (result->status != status || !strstr(result->text, text))
        fail_msg("%s: %s: %s", name, vr_extension_status_name(result->status), result->text);
}

static inline void set_timeout(Stage *stage, guint index, gint64 ms)
{
    ((VrExtension *)stage->model->extensions->pdata[index])->timeout_ms = ms; /* below what a model may say */
}

static inline void wait_for_file(const Stage *stage, const char *name)
{
    g_autofree char *path = path_of(stage, name);

    for (guint i = 0; i < 200 && !g_file_test(path, G_FILE_TEST_EXISTS); i++)
        g_usleep(50000);
}

static inline gboolean is_alive(const Stage *stage, const char *pid_file)
{
    g_autofree char *text = read_file(stage, pid_file);
    g_autofree char *state = g_strdup_printf("/proc/%s/stat", g_strchomp(text));
    g_autofree char *stat = NULL;

    return g_file_get_contents(state, &stat, NULL, NULL) && !strstr(stat, ") Z ");
}
