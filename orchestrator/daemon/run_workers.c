/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "orchestrator/daemon/run_workers.h"

#include "base/fd.h"
#include "base/lock.h"

#include <dirent.h>
#include <signal.h>
#include <string.h>
#include <sys/syscall.h>
#include <unistd.h>

/* Of "upgrade shop (pid 812, ...)"; 0: it has none. */
static pid_t pid_of(const char *holder)
{
    const char *at = holder ? g_strrstr(holder, "(pid ") : NULL;

    return at ? (pid_t)g_ascii_strtoll(at + strlen("(pid "), NULL, 10) : 0;
}

/* virt-reimage --worker-fd N ...; a command in somebody's terminal has the lock, too. */
static gboolean is_worker(pid_t pid)
{
    g_autofree char *path = g_strdup_printf("/proc/%d/cmdline", (int)pid);
    g_autofree char *words = NULL;
    gsize length;
    const char *second;

    if (!g_file_get_contents(path, &words, &length, NULL))
        return FALSE;
    second = memchr(words, '\0', length);
    return second && second + 1 < words + length && g_str_equal(second + 1, "--worker-fd");
}

/* The pidfd is taken before we look who it is, so that the signal reaches the one that was looked at. */
static gboolean signal_worker(pid_t pid, int number)
{
    vr_autofd fd = pid > 0 ? (int)syscall(SYS_pidfd_open, pid, 0) : -1;

    if (fd < 0 || !is_worker(pid))
        return FALSE;
    if (number > 0)
        (void)syscall(SYS_pidfd_send_signal, fd, number, NULL, 0);
    return TRUE;
}

guint vr_run_workers_signal(const char *root, int number)
{
    g_autofree char *path = g_build_filename(root, "locks", NULL);
    DIR *locks = opendir(path);
    guint found = 0;

    for (struct dirent *entry = locks ? readdir(locks) : NULL; entry; entry = readdir(locks)) {
        g_autofree char *holder = NULL;
        if (*entry->d_name != '.' && vr_lock_is_held(dirfd(locks), entry->d_name, &holder))
            found += signal_worker(pid_of(holder), number);
    }
    if (locks)
        closedir(locks);
    return found;
}
