/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "fault/fake_personalize.h"

#include "base/durable.h"
#include "base/error.h"
#include "base/fd.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#define AT (1 << 20) /* behind the clusters of the small disks of the tests */

FakePersonal fake_personal;

/* --- what a disk gets -------------------------------------------------------------------------------- */

static void add_file(GString *text, const char *dir, const VrGuestFile *file)
{
    gsize length;
    const char *bytes = g_bytes_get_data(file->data, &length);

    g_string_append_printf(text, "%s%s %d %o %s %zu\n", dir, file->path, file->kind, file->mode,
                           file->owner ? file->owner : "0:0", length);
    g_string_append_len(text, bytes, (gssize)length);
    g_string_append_c(text, '\n');
}

static GString *text_of(const VrPersonal *personal)
{
    GString *text = g_string_new(NULL);

    g_string_append_printf(text, "HOSTNAME %s\n", personal->hostname ? personal->hostname : "-");
    for (guint i = 0; i < personal->host_keys->len; i++)
        add_file(text, "/etc/ssh/", personal->host_keys->pdata[i]);
    if (personal->machine_id)
        g_string_append_printf(text, "/etc/machine-id 0 444 0:0 %zu\n%s\n\n", strlen(personal->machine_id) + 1,
                               personal->machine_id);
    for (guint i = 0; i < personal->files->len; i++)
        add_file(text, "", personal->files->pdata[i]);
    return text;
}

static gboolean write_disk(const VrPersonal *personal, GError **error)
{
    g_autoptr(GString) text = text_of(personal);
    vr_autofd fd = open(personal->disk, O_RDWR | O_NOFOLLOW | O_CLOEXEC);

    if (fd < 0 || ftruncate(fd, AT) < 0 || lseek(fd, AT, SEEK_SET) < 0) {
        vr_set_error_errno(error, errno, "%s", personal->disk);
        return FALSE;
    }
    return vr_write_all(fd, text->str, text->len / 2, personal->disk, error) &&
           vr_write_all(fd, text->str + text->len / 2, text->len - text->len / 2, personal->disk, error) &&
           vr_fsync(fd, personal->disk, error);
}

static gboolean personalize_one(const VrPersonal *personal, GError **error)
{
    if (fake_personal.fails) {
        g_set_error(error, VR_ERROR, VR_ERROR_INVALID, "cannot personalise %s: %s", personal->disk,
                    fake_personal.fails);
        return FALSE;
    }
    return vr_personal_check(personal, error) && write_disk(personal, error);
}

gboolean __wrap_vr_personalize(const VrPersonal *const *disks, guint n, const VrPersonalizeOptions *options,
                               GError **errors, GError **error);
gboolean __wrap_vr_personalize(const VrPersonal *const *disks, guint n, const VrPersonalizeOptions *options,
                               GError **errors, GError **error)
{
    gboolean all = TRUE;

    g_assert_nonnull(options->work_dir);
    g_atomic_int_inc(&fake_personal.launches);
    fake_personal.disks = n;
    if (fake_personal.before)
        fake_personal.before(disks[0]->disk);
    for (guint i = 0; i < n; i++) {
        errors[i] = NULL;
        all = personalize_one(disks[i], &errors[i]) && all;
    }
    return all;
}

/* --- what a disk has --------------------------------------------------------------------------------- */

/* NULL with an error: it cannot be read; "" : nothing. */
static char *read_text(const char *disk, GError **error)
{
    vr_autofd fd = open(disk, O_RDONLY | O_NOFOLLOW | O_CLOEXEC);
    struct stat st;
    gsize got = 0;

    if (fd < 0 || fstat(fd, &st) < 0) {
        vr_set_error_errno(error, errno, "%s", disk);
        return NULL;
    }
    if (st.st_size <= AT)
        return g_strdup("");
    char *text = g_malloc0((gsize)st.st_size - AT + 1);
    if (vr_pread_all(fd, text, (gsize)st.st_size - AT, AT, &got, error))
        return text;
    g_free(text);
    return NULL;
}

char *fake_personal_text(const char *disk)
{
    g_autofree char *text = read_text(disk, NULL);

    return text && *text ? g_steal_pointer(&text) : NULL;
}

static GPtrArray *first_tree(void)
{
    GPtrArray *files = vr_guest_files_new();

    g_ptr_array_add(files, vr_guest_file_new(VR_GUEST_FILE_REGULAR, "/etc/ssh/ssh_host_ed25519_key", 0600, "0:0",
                                             FAKE_HOST_KEY, strlen(FAKE_HOST_KEY)));
    g_ptr_array_add(files, vr_guest_file_new(VR_GUEST_FILE_REGULAR, "/etc/machine-id", 0444, "0:0",
                                             FAKE_MACHINE_ID "\n", strlen(FAKE_MACHINE_ID) + 1));
    g_ptr_array_add(files, vr_guest_file_new(VR_GUEST_FILE_REGULAR, FAKE_TLS_PATH, 0640, "33:4", FAKE_TLS_KEY,
                                             strlen(FAKE_TLS_KEY)));
    return files;
}

static GPtrArray *tree_of(const char *text)
{
    GPtrArray *files = vr_guest_files_new();
    const char *at = strchr(text, '\n') + 1; /* behind the host name */

    while (*at) {
        char path[256], owner[64];
        int kind = 0;
        guint mode = 0;
        gsize length = 0;
        g_assert_cmpint(sscanf(at, "%255s %d %o %63s %zu", path, &kind, &mode, owner, &length), ==, 5);
        at = strchr(at, '\n') + 1;
        g_ptr_array_add(files, vr_guest_file_new((VrGuestFileKind)kind, path, mode, owner, at, length));
        at += length + 1;
    }
    return files;
}

static gboolean is_asked_for(const char *const *paths, const char *path)
{
    for (; *paths; paths++) {
        gsize length = strlen(*paths);
        if (strncmp(path, *paths, length) == 0 && (path[length] == '\0' || path[length] == '/'))
            return TRUE;
    }
    return FALSE;
}

gboolean __wrap_vr_personalize_read(const char *disk, VrImageFormat format, const char *const *paths,
                                    const VrPersonalizeOptions *options, GPtrArray **files, GError **error);
gboolean __wrap_vr_personalize_read(const char *disk, VrImageFormat format, const char *const *paths,
                                    const VrPersonalizeOptions *options, GPtrArray **files, GError **error)
{
    g_autofree char *text = NULL;
    g_autoptr(GPtrArray) all = NULL;

    g_atomic_int_inc(&fake_personal.reads);
    if (fake_personal.before)
        fake_personal.before(disk);
    text = read_text(disk, error);
    if (!text)
        return FALSE;
    all = *text ? tree_of(text) : first_tree();
    *files = vr_guest_files_new();
    for (guint i = 0; i < all->len; i++)
        if (is_asked_for(paths, ((VrGuestFile *)all->pdata[i])->path))
            g_ptr_array_add(*files, vr_guest_file_copy(all->pdata[i]));
    return TRUE;
}
