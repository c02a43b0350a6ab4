/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* B21: overlay and version in one file, that has what a guest reads and refers to nothing. */
#include "disk/stores.h"

#include "disk/backing.h"
#include "disk/flatten.h"
#include "disk/overlay.h"

#include <fcntl.h>

#define UUID "0c1e8f6a-1111-4222-8333-000000000001"
#define MIB (1024 * 1024)

typedef struct {
    VrStore *store;
    VrImage *image;
    char *overlay; /* on the image, larger than it, and written to */
    int fd;
} Chain;

static char *place(const Chain *chain, const char *name)
{
    return g_build_filename(vr_store_root(chain->store), "disks", UUID, name, NULL);
}

static void chain_open(Chain *chain, const TestDir *dir, const char *source)
{
    g_autoptr(GError) error = NULL;
    if (g_str_has_suffix(source, ".raw"))
        make_raw(dir, source, 4 * MIB, 1);
    else
        make_qcow2(dir, source, NULL, 4 * MIB);
    chain->store = open_store(dir);
    must_publish(dir, chain->store, "os", "1.0.0", source);
    chain->image = vr_store_get(chain->store, "os", "1.0.0", &error);
    expect_no_error(error);
    assert_true(vr_overlay_create(chain->store, UUID, "g1.qcow2", chain->image, 8 * MIB, NULL, NULL, &error));
    chain->overlay = place(chain, "g1.qcow2");
    tool("qemu-io", "-f", "qcow2", "-c", "write -q -P 7 65000 70000", "-c", "write -q -z 262144 65536", "-c",
         "write -q -P 9 6000000 512", chain->overlay);
    chain->fd = open(chain->overlay, O_RDONLY | O_CLOEXEC);
    assert_true(chain->fd >= 0);
}

static void chain_close(Chain *chain)
{
    close(chain->fd);
    g_free(chain->overlay);
    vr_image_free(chain->image);
    vr_store_close(chain->store);
}

static gboolean note(const VrFileId *id, void *data, GError **error)
{
    *(VrFileId *)data = *id;
    return TRUE;
}

static void stands_alone(const TestDir *dir, const char *source)
{
    Chain chain;
    g_autoptr(GError) error = NULL;
    VrFileId told = {0}, is = {0};
    guint64 bytes = 0;

    chain_open(&chain, dir, source);
    g_autofree char *path = place(&chain, "g2.qcow2");
    g_autofree char *backing = NULL;
    assert_true(vr_flatten_bytes(chain.store, chain.fd, chain.image, &bytes, NULL));
    vr_flatten_make(chain.store, UUID, "g2.qcow2", chain.fd, chain.image, NULL, note, &told, &error);
    expect_no_error(error);
    assert_true(vr_disk_file_id(path, &is, NULL));
    assert_true(vr_disk_file_same(&told, &is));
    assert_int_equal(is.size, bytes);
    assert_int_equal(mode_of(dir, "root/disks/" UUID "/g2.qcow2"), 0600);
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    assert_true(vr_backing_name(fd, &backing, NULL));
    assert_null(backing);
    close(fd);
    tool("qemu-img", "check", "-q", path);
    guint64 size;
    assert_true(vr_disk_file_virtual_size(path, "qcow2", &size, NULL));
    assert_int_equal(size, 8 * MIB);
    tool("qemu-img", "compare", "-f", "qcow2", "-F", "qcow2", chain.overlay, path);
    assert_false(vr_flatten_make(chain.store, UUID, "g2.qcow2", chain.fd, chain.image, NULL, NULL, NULL, &error));
    assert_true(g_error_matches(error, VR_ERROR, VR_ERROR_CONFLICT)); /* never over another */
    chain_close(&chain);
}

static void on_a_raw_version(void **state)
{
    stands_alone(*state, "a.raw");
}

static void on_a_qcow2_version(void **state)
{
    stands_alone(*state, "a.qcow2");
}

/* What it lies on must be what is recorded, and whoever is told may refuse. */
static void refusals_leave_nothing(void **state)
{
    TestDir *dir = *state;
    Chain chain;
    g_autoptr(GError) error = NULL;
    const gint cancelled = 1;
    guint64 bytes;

    chain_open(&chain, dir, "a.raw");
    make_raw(dir, "b.raw", 4 * MIB, 2);
    must_publish(dir, chain.store, "os", "2.0.0", "b.raw");
    g_autoptr(VrImage) other = vr_store_get(chain.store, "os", "2.0.0", NULL);
    assert_false(vr_flatten_make(chain.store, UUID, "g2.qcow2", chain.fd, other, NULL, NULL, NULL, &error));
    assert_true(g_error_matches(error, VR_ERROR, VR_ERROR_REFUSED));
    assert_non_null(strstr(error->message, "not on os 2.0.0"));
    g_clear_error(&error);
    assert_false(vr_flatten_bytes(chain.store, chain.fd, other, &bytes, NULL));
    assert_false(vr_flatten_make(chain.store, UUID, "g2.qcow2", chain.fd, chain.image, &cancelled, NULL, NULL, &error));
    assert_true(g_error_matches(error, VR_ERROR, VR_ERROR_CANCELLED));
    g_clear_error(&error);
    assert_false(vr_flatten_has_room(chain.store, G_MAXUINT64 / 2, &error));
    assert_true(g_error_matches(error, VR_ERROR, VR_ERROR_NO_SPACE));
    g_autofree char *disks = g_build_filename(vr_store_root(chain.store), "disks", UUID, NULL);
    assert_int_equal(count_entries(disks), 1);
    chain_close(&chain);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        dir_test(on_a_raw_version),
        dir_test(on_a_qcow2_version),
        dir_test(refusals_leave_nothing),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
