/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* What the unit tests of base and disk share: a temp directory a test, child tools, expected errors. */
#pragma once

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "base/child.h"
#include "base/durable.h"
#include "base/error.h"
#include "base/fd.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <unistd.h>

typedef struct {
    char *path;
    int fd;
} TestDir;

/* Runs a tool that must succeed; NULL ends the arguments. */
#define tool(...) run_tool((const char *const[]){__VA_ARGS__, NULL})

/* One that may take ten minutes. */
#define slow_tool(...) run_tool_within((const char *const[]){__VA_ARGS__, NULL}, 600000)

static inline void run_tool_within(const char *const *argv, gint64 timeout_ms)
{
    const VrChildLimits limits = {.timeout_ms = timeout_ms};
    g_autoptr(GError) error = NULL;
    if (!vr_child_run(argv, &limits, NULL, &error))
        fail_msg("%s", error->message);
}

static inline void run_tool(const char *const *argv)
{
    run_tool_within(argv, 0);
}

static inline int test_dir_setup(void **state)
{
    TestDir *dir = g_new0(TestDir, 1);
    dir->path = g_dir_make_tmp("vr-test-XXXXXX", NULL);
    if (!dir->path)
        return -1;
    (void)chmod(dir->path, 0711);
    dir->fd = vr_dir_open(dir->path, NULL);
    *state = dir;
    return dir->fd < 0 ? -1 : 0;
}

static inline int test_dir_teardown(void **state)
{
    TestDir *dir = *state;
    const char *mounts[] = {"root", "small"}; /* of tests that failed before their umount */
    for (gsize i = 0; i < G_N_ELEMENTS(mounts); i++) {
        g_autofree char *path = g_build_filename(dir->path, mounts[i], NULL);
        (void)umount2(path, MNT_DETACH);
    }
    tool("rm", "-rf", "--one-file-system", dir->path);
    vr_fd_clear(&dir->fd);
    g_free(dir->path);
    g_free(dir);
    return 0;
}

#define dir_test(f) cmocka_unit_test_setup_teardown(f, test_dir_setup, test_dir_teardown)

static inline char *in_dir(const TestDir *dir, const char *name)
{
    return g_build_filename(dir->path, name, NULL);
}

/* The file's content as a string; fails the test when it cannot be read. */
static G_NO_INLINE G_GNUC_UNUSED char *content_of(const TestDir *dir, const char *name) /* inlined it is warned of */
{
    g_autofree char *path = in_dir(dir, name);
    char *text = NULL;
    if (!g_file_get_contents(path, &text, NULL, NULL))
        fail_msg("cannot read %s", path);
    return text;
}

static inline void put_file(const TestDir *dir, const char *name, const void *data, gsize length)
{
    g_autofree char *path = in_dir(dir, name);
    assert_true(g_file_set_contents(path, data, (gssize)length, NULL));
}

static inline gboolean is_there(const TestDir *dir, const char *name)
{
    struct stat st;
    return fstatat(dir->fd, name, &st, AT_SYMLINK_NOFOLLOW) == 0;
}

static inline guint count_entries(const char *path)
{
    g_autoptr(GDir) dir = g_dir_open(path, 0, NULL);
    guint n = 0;
    while (dir && g_dir_read_name(dir))
        n++;
    return n;
}

/* The error has this code and its message holds the text; clears it for the next use. */
static inline void expect_error(GError **error, int code, const char *text)
{
    if (!*error)
        fail_msg("no error, \"%s\" was expected", text);
    if ((*error)->domain != VR_ERROR || (*error)->code != code || !strstr((*error)->message, text))
        fail_msg("%s (%s) where %s with \"%s\" was expected", (*error)->message, vr_error_name((*error)->code),
                 vr_error_name(code), text);
    g_clear_error(error);
}

static inline void expect_no_error(const GError *error)
{
    if (error)
        fail_msg("unexpected: %s", error->message);
}
