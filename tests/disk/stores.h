/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* A store in a temp directory, for the tests of store and overlay. */
#pragma once

#include "disk/images.h"

#include "disk/disk_file.h"
#include "disk/store.h"

static inline VrStore *open_store(const TestDir *dir)
{
    g_autoptr(GError) error = NULL;
    g_autofree char *root = in_dir(dir, "root");
    VrStore *store = vr_store_open(root, FALSE, &error);
    expect_no_error(error);
    return store;
}

/* Publishes file `source` of the test's directory byte for byte. */
static inline gboolean publish(const TestDir *dir, VrStore *store, const char *name, const char *version,
                               const char *source, const char *digest, gboolean *already, GError **error)
{
    g_autofree char *file = in_dir(dir, source);
    g_autoptr(VrImage) image = NULL;
    const VrPublication publication = {.name = name,
                                       .version = version,
                                       .file = file,
                                       .digest = digest,
                                       .as_given = g_strrstr(source, ".raw") != NULL,
                                       .as = VR_FORMAT_RAW};
    return vr_store_publish(store, &publication, &image, already, error);
}

static inline void must_publish(const TestDir *dir, VrStore *store, const char *name, const char *version,
                                const char *source)
{
    g_autoptr(GError) error = NULL;
    gboolean already = TRUE;
    publish(dir, store, name, version, source, NULL, &already, &error);
    expect_no_error(error);
    assert_false(already);
}

static inline char *digest_of_file(const TestDir *dir, const char *name)
{
    g_autofree char *path = in_dir(dir, name);
    g_autofree char *bytes = NULL;
    gsize length;
    assert_true(g_file_get_contents(path, &bytes, &length, NULL));
    g_autofree char *hex = sha256_of(bytes, length);
    return g_strconcat("sha256:", hex, NULL);
}

static inline mode_t mode_of(const TestDir *dir, const char *name)
{
    struct stat st;
    if (fstatat(dir->fd, name, &st, AT_SYMLINK_NOFOLLOW) != 0)
        fail_msg("%s is not there", name);
    return st.st_mode & 07777;
}

/* Everything in the store but the database's own files: a listing of paths, modes, sizes and times. */
static inline char *listing(const TestDir *dir)
{
    g_auto(VrChildResult) result = {0};
    g_autofree char *root = in_dir(dir, "root");
    assert_true(vr_child_run(
        (const char *const[]){"sh", "-c", "find \"$1\" -not -name 'state.db*' -printf '%P %m %s %T@ %i\\n' | sort",
                              "sh", root, NULL},
        NULL, &result, NULL));
    return g_steal_pointer(&result.out);
}

/* Who is told which file it is before that has its name. */
typedef struct {
    char *path; /* of its place */
    VrFileId id;
    gboolean refuses;
} Told;

static inline gboolean be_told(const VrFileId *id, void *data, GError **error)
{
    Told *told = data;

    assert_false(g_file_test(told->path, G_FILE_TEST_EXISTS));
    told->id = *id;
    if (told->refuses)
        g_set_error(error, VR_ERROR, VR_ERROR_FENCED, "no more");
    return !told->refuses;
}
