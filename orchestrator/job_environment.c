/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "orchestrator/job_environment.h"

#include <string.h>

#define LONGEST 128

static gboolean is_locale(const char *name)
{
    return g_str_equal(name, "LANG") || g_str_has_prefix(name, "LC_");
}

/* Not handed on from who starts the job. */
static gboolean is_left_out(const char *name)
{
    static const char *const names[] = {"NOTIFY_SOCKET",
                                        "LISTEN_FDS",
                                        "LISTEN_PID",
                                        "LISTEN_FDNAMES",
                                        "WATCHDOG_USEC",
                                        "WATCHDOG_PID",
                                        "JOURNAL_STREAM",
                                        "INVOCATION_ID",
                                        "MAINPID",
                                        "MANAGERPID",
                                        "SYSTEMD_EXEC_PID",
                                        "RUNTIME_DIRECTORY",
                                        "STATE_DIRECTORY",
                                        "CONFIGURATION_DIRECTORY",
                                        "CREDENTIALS_DIRECTORY",
                                        "MEMORY_PRESSURE_WATCH",
                                        "MEMORY_PRESSURE_WRITE",
                                        "LANGUAGE",
                                        "TERM",
                                        "COLUMNS",
                                        "LINES",
                                        "NO_COLOR",
                                        "TZ",
                                        "SUDO_USER",
                                        "LIBVIRT_DEFAULT_URI",
                                        "VIRT_REIMAGE_JOB",
                                        "VIRT_REIMAGE_JOB_ROOT",
                                        VR_JOB_UID,
                                        "VIRT_REIMAGE_ERROR_JSON",
                                        "VIRT_REIMAGE_SOCKET_DIR",
                                        NULL};

    return is_locale(name) || g_strv_contains(names, name);
}

static void add(GHashTable *all, const char *pair)
{
    const char *equals = strchr(pair, '=');

    if (equals)
        g_hash_table_insert(all, g_strndup(pair, (gsize)(equals - pair)), g_strdup(pair));
}

char **vr_job_environment(const char *const *base, const char *const *more)
{
    g_autoptr(GHashTable) all = g_hash_table_new_full(g_str_hash, g_str_equal, g_free, g_free);
    g_autoptr(GStrvBuilder) builder = g_strv_builder_new();
    GHashTableIter iter;
    gpointer pair;

    for (; base && *base; base++) {
        g_autofree char *name = g_strndup(*base, strcspn(*base, "="));
        if (!is_left_out(name))
            add(all, *base);
    }
    for (; more && *more; more++)
        add(all, *more);
    g_hash_table_iter_init(&iter, all);
    while (g_hash_table_iter_next(&iter, NULL, &pair))
        g_strv_builder_add(builder, pair);
    return g_strv_builder_end(builder);
}

static gboolean has_only(const char *value, const char *others)
{
    gsize length = 0;

    for (; value[length]; length++)
        if (length == LONGEST || (!g_ascii_isalnum(value[length]) && !strchr(others, value[length])))
            return FALSE;
    return TRUE;
}

/* "Europe/Berlin" and "CET-1CEST,M3.5.0,M10.5.0/3" lie below the directory of zones or are rules; ":/etc/x" and "../x" are files. */
static gboolean is_zone(const char *value)
{
    return has_only(value, "_+-,./") && *value != '/' && *value != '.' && !strstr(value, "..");
}

gboolean vr_job_environment_may(const char *pair, gboolean root)
{
    const char *equals = strchr(pair, '=');
    g_autofree char *name = equals ? g_strndup(pair, (gsize)(equals - pair)) : NULL;
    const char *value = equals ? equals + 1 : NULL;

    if (!name)
        return FALSE;
    if (is_locale(name))
        return has_only(name, "_") && has_only(value, "_.@-") && !strstr(value, "..");
    if (g_str_equal(name, "TERM"))
        return has_only(value, "_.+-") && *value != '.';
    if (g_str_equal(name, "COLUMNS") || g_str_equal(name, "LINES") || g_str_equal(name, "NO_COLOR"))
        return has_only(value, "");
    if (g_str_equal(name, "TZ"))
        return is_zone(value);
    if (g_str_equal(name, "SUDO_USER"))
        return root && has_only(value, "_.-");
    return g_str_equal(name, "VIRT_REIMAGE_DEBUG") && root && has_only(value, "");
}
