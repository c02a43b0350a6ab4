/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "base/confine.h"

#include "base/error.h"
#include "base/fd.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/landlock.h>
#include <pthread.h>
#include <stdint.h>
#include <sys/mount.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#define LEAST_VERSION 2
#define TRUNCATE (UINT64_C(1) << 14) /* since version 3; not in the headers of Debian 12 */

#define OF_FILES ((uint64_t)LANDLOCK_ACCESS_FS_WRITE_FILE)
#define OF_DIRECTORIES                                                                                                 \
    ((uint64_t)(LANDLOCK_ACCESS_FS_REMOVE_DIR | LANDLOCK_ACCESS_FS_REMOVE_FILE | LANDLOCK_ACCESS_FS_MAKE_CHAR |        \
                LANDLOCK_ACCESS_FS_MAKE_DIR | LANDLOCK_ACCESS_FS_MAKE_REG | LANDLOCK_ACCESS_FS_MAKE_SOCK |             \
                LANDLOCK_ACCESS_FS_MAKE_FIFO | LANDLOCK_ACCESS_FS_MAKE_BLOCK | LANDLOCK_ACCESS_FS_MAKE_SYM |           \
                (UINT64_C(1) << 13))) /* REFER: from one directory to another */

/* gcov writes its counts when the process ends. */
#ifdef VR_COVERAGE_DIR
static const char *const more_dirs[] = {VR_COVERAGE_DIR, NULL};
#else
static const char *const more_dirs[] = {NULL};
#endif

/* -- Outside -------------------------------------------------------------------------------------- */

typedef struct Task {
    void (*func)(void *data);
    void *data;
    gboolean done;
    struct Task *next;
} Task;

/* lock guards the list and each task's `done`; `changed` is for both sides. confined is written once, before other threads read it. */
static struct {
    pthread_mutex_t lock;
    pthread_cond_t changed;
    Task *tasks;
    gboolean confined;
} outside = {.lock = PTHREAD_MUTEX_INITIALIZER, .changed = PTHREAD_COND_INITIALIZER};

static void *perform(void *data)
{
    Task *task = data;

    task->func(task->data);
    pthread_mutex_lock(&outside.lock);
    task->done = TRUE;
    pthread_cond_broadcast(&outside.changed);
    pthread_mutex_unlock(&outside.lock);
    return NULL;
}

/* A thread for each task, so that one that hangs holds up no other. */
static void *wait_for_tasks(void *unused)
{
    for (;;) {
        pthread_t thread;

        pthread_mutex_lock(&outside.lock);
        while (!outside.tasks)
            pthread_cond_wait(&outside.changed, &outside.lock);
        Task *task = outside.tasks;
        outside.tasks = task->next;
        pthread_mutex_unlock(&outside.lock);
        if (pthread_create(&thread, NULL, perform, task) == 0)
            pthread_detach(thread);
        else
            perform(task);
    }
    return NULL;
}

void vr_confine_outside(void (*func)(void *data), void *data)
{
    Task task = {.func = func, .data = data};

    pthread_mutex_lock(&outside.lock);
    gboolean confined = outside.confined;
    if (confined) {
        task.next = outside.tasks;
        outside.tasks = &task;
        pthread_cond_broadcast(&outside.changed);
        while (!task.done)
            pthread_cond_wait(&outside.changed, &outside.lock);
    }
    pthread_mutex_unlock(&outside.lock);
    if (!confined)
        func(data);
}

/* -- The rules ------------------------------------------------------------------------------------ */

int vr_confine_version(void)
{
    long version = syscall(SYS_landlock_create_ruleset, NULL, 0, LANDLOCK_CREATE_RULESET_VERSION);

    return version >= LEAST_VERSION ? (int)version : 0;
}

static uint64_t file_rights(int version)
{
    return OF_FILES | (version >= 3 ? TRUNCATE : 0);
}

static gboolean allow(int rules, const char *path, uint64_t rights, GError **error)
{
    vr_autofd fd = open(path, O_PATH | O_CLOEXEC);
    struct landlock_path_beneath_attr beneath = {.allowed_access = rights, .parent_fd = fd};
    struct stat st;

    if (fd >= 0 && fstat(fd, &st) == 0 && !S_ISDIR(st.st_mode))
        beneath.allowed_access &= ~OF_DIRECTORIES; /* the kernel refuses them for a file */
    if (fd >= 0 && syscall(SYS_landlock_add_rule, rules, LANDLOCK_RULE_PATH_BENEATH, &beneath, 0) == 0)
        return TRUE;
    vr_set_error_errno(error, errno, "Landlock: %s", path);
    return FALSE;
}

static gboolean allow_all(int rules, const char *const *dirs, uint64_t rights, GError **error)
{
    for (; *dirs; dirs++)
        if (!allow(rules, *dirs, rights, error))
            return FALSE;
    return TRUE;
}

static int make_rules(const char *const *dirs, GError **error)
{
    uint64_t files = file_rights(vr_confine_version());
    struct landlock_ruleset_attr handled = {.handled_access_fs = files | OF_DIRECTORIES};
    vr_autofd rules = (int)syscall(SYS_landlock_create_ruleset, &handled, sizeof handled, 0);

    if (rules < 0)
        vr_set_error_errno(error, errno, "Landlock");
    else if (allow(rules, "/dev/null", files, error) && allow_all(rules, dirs, files | OF_DIRECTORIES, error) &&
             allow_all(rules, more_dirs, files | OF_DIRECTORIES, error))
        return vr_fd_steal(&rules);
    return -1;
}

/* Who is not root must first give up programs that make him more. */
static gboolean restrict_self(int rules, GError **error)
{
    if (syscall(SYS_landlock_restrict_self, rules, 0) == 0)
        return TRUE;
    if (errno == EPERM && prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) == 0 &&
        syscall(SYS_landlock_restrict_self, rules, 0) == 0)
        return TRUE;
    vr_set_error_errno(error, errno, "Landlock");
    return FALSE;
}

static gboolean start_outside(GError **error)
{
    pthread_t thread;
    int failed = pthread_create(&thread, NULL, wait_for_tasks, NULL);

    if (failed == 0)
        pthread_detach(thread);
    else
        vr_set_error_errno(error, failed, "no thread for what is not restricted");
    return failed == 0;
}

static gboolean has_landlock(GError **error)
{
    if (vr_confine_version() > 0)
        return TRUE;
    g_set_error_literal(error, VR_ERROR, VR_ERROR_NOT_FOUND, "the kernel has no Landlock that could be used");
    return FALSE;
}

gboolean vr_confine_closed(const char *const *paths, GError **error)
{
    if (!has_landlock(error))
        return FALSE;
    vr_autofd rules = make_rules(paths, error);
    return rules >= 0 && restrict_self(rules, error);
}

gboolean vr_confine(const char *const *dirs, GError **error)
{
    if (outside.confined)
        return TRUE;
    if (!has_landlock(error))
        return FALSE;
    vr_autofd rules = make_rules(dirs, error);
    if (rules < 0 || !start_outside(error) || !restrict_self(rules, error))
        return FALSE;
    pthread_mutex_lock(&outside.lock);
    outside.confined = TRUE;
    pthread_mutex_unlock(&outside.lock);
    return TRUE;
}

/* -- Mounts --------------------------------------------------------------------------------------- */

/* Each becomes a mount, so that it has a flag of its own. With all that is mounted beneath: in the namespace of a user the kernel refuses to leave
 * that out. */
static gboolean bind_each(const char *const *paths, GError **error)
{
    for (; *paths; paths++)
        if (mount(*paths, *paths, NULL, MS_BIND | MS_REC, NULL) < 0) {
            vr_set_error_errno(error, errno, "cannot mount %s onto itself", *paths);
            return FALSE;
        }
    return TRUE;
}

static gboolean write_each(const char *const *paths, GError **error)
{
    struct mount_attr written = {.attr_clr = MOUNT_ATTR_RDONLY};

    for (; *paths; paths++)
        if (mount_setattr(AT_FDCWD, *paths, 0, &written, sizeof written) < 0) {
            vr_set_error_errno(error, errno, "cannot let %s be written to", *paths);
            return FALSE;
        }
    return TRUE;
}

gboolean vr_confine_mounts(const char *const *paths, GError **error)
{
    struct mount_attr reading = {.attr_set = MOUNT_ATTR_RDONLY};

    if (!bind_each(more_dirs, error) || !bind_each(paths, error))
        return FALSE;
    if (mount_setattr(AT_FDCWD, "/", AT_RECURSIVE, &reading, sizeof reading) == 0)
        return write_each(more_dirs, error) && write_each(paths, error);
    vr_set_error_errno(error, errno,
                       "cannot make the files of this host read-only (mount_setattr, which Linux has since 5.12)");
    return FALSE;
}
