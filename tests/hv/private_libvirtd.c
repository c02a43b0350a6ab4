/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "hv/private_libvirtd.h"

#include <stdlib.h>
#include <sys/wait.h>
#include <unistd.h>

static void read_uri(PrivateLibvirtd *daemon)
{
    char line[512];
    gsize n = 0;

    while (n + 1 < sizeof(line) && read(daemon->out, line + n, 1) == 1 && line[n] != '\n')
        n++;
    line[n] = '\0';
    g_auto(GStrv) words = g_strsplit(line, " ", 2);
    g_free(daemon->uri);
    daemon->uri = n > 0 ? g_strdup(words[0]) : NULL;
    daemon->pid = n > 0 ? (pid_t)atoi(words[1]) : 0;
}

PrivateLibvirtd *private_libvirtd_start(void)
{
    g_autofree char *script = g_build_filename(g_getenv("VR_SOURCE_DIR"), "tests", "lib", "libvirtd.py", NULL);
    char *argv[] = {(char *)"/usr/bin/python3", script, (char *)"--serve", NULL};
    PrivateLibvirtd *daemon = g_new0(PrivateLibvirtd, 1);

    if (geteuid() == 0 && access("/usr/bin/qemu-system-x86_64", X_OK) == 0 &&
        g_spawn_async_with_pipes(NULL, argv, NULL, G_SPAWN_DO_NOT_REAP_CHILD, NULL, NULL, &daemon->helper, &daemon->in,
                                 &daemon->out, NULL, NULL))
        read_uri(daemon);
    if (daemon->uri)
        return daemon;
    private_libvirtd_end(daemon);
    return NULL;
}

void private_libvirtd_again(PrivateLibvirtd *daemon)
{
    g_assert_cmpint(write(daemon->in, "\n", 1), ==, 1);
    read_uri(daemon);
    g_assert_nonnull(daemon->uri);
}

void private_libvirtd_end(PrivateLibvirtd *daemon)
{
    if (daemon->helper) {
        close(daemon->in);
        close(daemon->out);
        waitpid(daemon->helper, NULL, 0);
    }
    g_free(daemon->uri);
    g_free(daemon);
}
