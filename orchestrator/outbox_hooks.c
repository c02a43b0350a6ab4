/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * Hooks: the programs in one directory, in the order of their names, each called as libvirt calls its own: NAME EVENT SET RUN, with the notice as JSON on
 * standard input. Exit status 0 says that it took the notice.
 *
 * Root runs them, so the directory and each program must belong to root or to the user, and nobody else may write to them; a link is not
 * followed. One that does not fit is a channel all the same: its notices wait, and 'notices' says why. What is not executable is no hook,
 * nor is what editors and package managers leave beside one.
 */
#include "orchestrator/outbox_private.h"

#include "base/child.h"
#include "base/durable.h"
#include "base/error.h"
#include "base/fd.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#define HOOK_MS 30000
#define PREFIX "hook/"

static gboolean is_hook_name(const char *name)
{
    static const char *const not_these[] = {"~", ".bak", ".dpkg-new", ".dpkg-old", ".dpkg-dist", ".rpmnew", ".rpmsave"};

    if (*name == '.' || strspn(name, G_CSET_A_2_Z G_CSET_a_2_z G_CSET_DIGITS "-_.") != strlen(name))
        return FALSE;
    for (guint i = 0; i < G_N_ELEMENTS(not_these); i++)
        if (g_str_has_suffix(name, not_these[i]))
            return FALSE;
    return TRUE;
}

static gboolean is_hook(const char *path)
{
    struct stat st;

    return lstat(path, &st) == 0 && (S_ISLNK(st.st_mode) || (S_ISREG(st.st_mode) && (st.st_mode & 0111)));
}

static int by_name(gconstpointer a, gconstpointer b)
{
    return strcmp(*(char *const *)a, *(char *const *)b);
}

static gboolean is_ours_alone(const char *path, const struct stat *st, GError **error)
{
    if (st->st_uid != 0 && st->st_uid != geteuid()) {
        g_set_error(error, VR_ERROR, VR_ERROR_FAILED, "%s belongs to uid %u and is not run", path,
                    (unsigned)st->st_uid);
        vr_error_next(error, "'chown root %s'", path);
    } else if (st->st_mode & 0022) {
        g_set_error(error, VR_ERROR, VR_ERROR_FAILED, "%s can be written to by others and is not run", path);
        vr_error_next(error, "'chmod go-w %s'", path);
    } else {
        return TRUE;
    }
    return FALSE;
}

/* Nobody else can put another file in its place once its directory is ours. */
static gboolean check(const VrChannel *channel, GError **error)
{
    const char *directory = channel->config->hooks;
    vr_autofd dir = vr_dir_open(directory, error);
    const char *name = channel->name + strlen(PREFIX);
    struct stat st;

    if (dir < 0)
        return FALSE;
    if (fstat(dir, &st) < 0) {
        vr_set_error_errno(error, errno, "%s", directory);
        return FALSE;
    }
    if (!is_ours_alone(directory, &st, error))
        return FALSE;
    if (fstatat(dir, name, &st, AT_SYMLINK_NOFOLLOW) < 0)
        vr_set_error_errno(error, errno, "%s", channel->path);
    else if (S_ISLNK(st.st_mode)) {
        g_set_error(error, VR_ERROR, VR_ERROR_FAILED, "%s is a link and is not followed", channel->path);
        vr_error_next(error, "put the program there");
    } else {
        return is_ours_alone(channel->path, &st, error);
    }
    return FALSE;
}

static gboolean send_hook(const VrChannel *channel, const VrOutboxNotice *notice, GError **error)
{
    const char *const argv[] = {channel->path, vr_outbox_kind_name(notice->kind), notice->set_name,
                                notice->run_id ? notice->run_id : "-", NULL};
    const VrChildLimits limits = {.timeout_ms = HOOK_MS, .input = notice->body};

    return check(channel, error) && vr_child_run(argv, &limits, NULL, error);
}

void vr_outbox_add_hooks(const VrConfig *config, GPtrArray *channels)
{
    g_autoptr(GDir) dir = config->hooks ? g_dir_open(config->hooks, 0, NULL) : NULL;
    g_autoptr(GPtrArray) names = g_ptr_array_new_with_free_func(g_free);
    const char *name;

    while (dir && (name = g_dir_read_name(dir)))
        if (is_hook_name(name))
            g_ptr_array_add(names, g_strdup(name));
    g_ptr_array_sort(names, by_name);
    for (guint i = 0; i < names->len; i++) {
        g_autofree char *path = g_build_filename(config->hooks, names->pdata[i], NULL);
        g_autofree char *title = g_strconcat(PREFIX, names->pdata[i], NULL);
        VrChannel *channel;
        if (!is_hook(path))
            continue;
        channel = vr_channel_new(title, config);
        channel->path = g_steal_pointer(&path);
        channel->send = send_hook;
        channel->check = check;
        g_ptr_array_add(channels, channel);
    }
}
