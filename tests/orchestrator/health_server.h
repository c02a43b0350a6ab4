/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Starts tests/orchestrator/health_server.py, which ends with the test, and remembers its ports. */
#pragma once

#include <glib.h>
#include <glib/gstdio.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/wait.h>
#include <unistd.h>

static struct {
    guint http, https, silent;
    char *dir, *ca_file;
    int in;
    GPid pid;
} server;

/* address: where it listens; child_setup: NULL, or run in the server's process before it begins. */
static void start_server(const char *address, GSpawnChildSetupFunc child_setup)
{
    g_autofree char *script = g_build_filename(g_getenv("VR_SOURCE_DIR"), "tests/orchestrator/health_server.py", NULL);
    GError *error = NULL;
    int out;
    FILE *lines;

    server.dir = g_dir_make_tmp("vr-health-XXXXXX", NULL);
    server.ca_file = g_build_filename(server.dir, "ca.pem", NULL);
    const char *argv[] = {"/usr/bin/python3", script, server.dir, address, NULL};
    if (!g_spawn_async_with_pipes(NULL, (char **)argv, NULL, G_SPAWN_DO_NOT_REAP_CHILD, child_setup, NULL, &server.pid,
                                  &server.in, &out, NULL, &error))
        g_error("%s", error->message);
    lines = fdopen(out, "r");
    if (fscanf(lines, "%u %u %u", &server.http, &server.https, &server.silent) != 3)
        g_error("the health server does not start");
    fclose(lines);
}

static void stop_server(void)
{
    g_autofree char *key = g_build_filename(server.dir, "key.pem", NULL);

    close(server.in);
    waitpid(server.pid, NULL, 0);
    g_unlink(server.ca_file);
    g_unlink(key);
    g_rmdir(server.dir);
    g_free(server.dir);
    g_free(server.ca_file);
}
