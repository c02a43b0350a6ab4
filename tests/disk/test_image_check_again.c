/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* A9: rules that are newer than a stored verdict (SAFETY invariant 5): asked before an overlay, once, and remembered. */
#include "disk/stores.h"

#include "disk/overlay.h"

#define MIB (1024 * 1024)
#define UUID "0c1e8f6a-2222-4222-8333-123456789abc"

/* A published image whose verdict is older than the program. */
static VrImage *published_long_ago(const TestDir *dir, VrStore *store)
{
    g_autoptr(GError) error = NULL;
    make_qcow2(dir, "a.qcow2", NULL, 4 * MIB);
    must_publish(dir, store, "a", "1", "a.qcow2");
    VrImage *image = vr_store_get(store, "a", "1", &error);
    expect_no_error(error);
    assert_int_equal(image->rules_version, VR_IMAGE_RULES_VERSION);
    image->rules_version = VR_IMAGE_RULES_VERSION - 1;
    return image;
}

static gint64 number_in_db(VrStore *store, const char *sql)
{
    assert_true(vr_db_begin(vr_store_db(store), NULL));
    g_autoptr(sqlite3_stmt) stmt = vr_db_prepare(vr_store_db(store), NULL, sql, NULL);
    gint64 number = vr_db_step(vr_store_db(store), stmt, NULL) > 0 ? sqlite3_column_int64(stmt, 0) : -1;
    vr_db_rollback(vr_store_db(store));
    return number;
}

static void change_stored(const VrImage *image, guint64 at, guint8 byte)
{
    vr_autofd fd = open(image->path, O_WRONLY | O_CLOEXEC);
    assert_true(fd >= 0);
    assert_int_equal(pwrite(fd, &byte, 1, (off_t)at), 1);
    assert_int_equal(fsync(fd), 0);
}

static void a_good_image_is_checked_once_more(void **state)
{
    GError *error = NULL;
    g_autoptr(VrStore) store = open_store(*state);
    g_autoptr(VrImage) image = published_long_ago(*state, store);
    assert_true(vr_overlay_create(store, UUID, "g1.qcow2", image, 0, NULL, NULL, &error));
    assert_int_equal(number_in_db(store, "SELECT count(*) FROM image_rechecked WHERE accepted = 1"), 1);
    assert_true(vr_overlay_create(store, UUID, "g2.qcow2", image, 0, NULL, NULL, &error));
    assert_true(vr_store_verify(store, image, FALSE, &error));
    assert_int_equal(number_in_db(store, "SELECT count(*) FROM image_rechecked"), 1);
}

static void what_newer_rules_refuse_gets_no_new_overlay(void **state)
{
    GError *error = NULL;
    g_autoptr(VrStore) store = open_store(*state);
    g_autoptr(VrImage) image = published_long_ago(*state, store);
    change_stored(image, 79, 1);  /* the dirty bit */
    for (int i = 0; i < 2; i++) { /* the second time from the database */
        assert_false(vr_overlay_create(store, UUID, "g1.qcow2", image, 0, NULL, NULL, &error));
        expect_error(&error, VR_ERROR_REFUSED, "(rule dirty): it was not closed cleanly");
    }
    assert_false(vr_store_verify(store, image, FALSE, &error));
    expect_error(&error, VR_ERROR_REFUSED, "rule dirty");
    g_autofree char *disks = g_build_filename(vr_store_root(store), "disks", UUID, NULL);
    assert_int_equal(count_entries(disks), 0);
    image->rules_version = VR_IMAGE_RULES_VERSION; /* a verdict of these rules is not asked again */
    assert_true(vr_overlay_create(store, UUID, "g1.qcow2", image, 0, NULL, NULL, &error));
}

/* Another file, or other rules: what is remembered does not count. */
static void what_is_remembered_is_of_that_file_and_those_rules(void **state)
{
    GError *error = NULL;
    g_autoptr(VrStore) store = open_store(*state);
    g_autoptr(VrImage) image = published_long_ago(*state, store);
    assert_true(vr_overlay_create(store, UUID, "g1.qcow2", image, 0, NULL, NULL, &error));
    g_usleep(20000);
    change_stored(image, 79, 1);
    assert_false(vr_overlay_create(store, UUID, "g2.qcow2", image, 0, NULL, NULL, &error));
    expect_error(&error, VR_ERROR_REFUSED, "rule dirty");
    assert_true(vr_db_begin(vr_store_db(store), NULL));
    assert_true(vr_db_run(vr_store_db(store), NULL, NULL,
                          "UPDATE image_rechecked SET accepted = 1, rules_version = rules_version - 1", NULL));
    assert_true(vr_db_commit(vr_store_db(store), NULL));
    assert_false(vr_overlay_create(store, UUID, "g2.qcow2", image, 0, NULL, NULL, &error));
    expect_error(&error, VR_ERROR_REFUSED, "rule dirty");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        dir_test(a_good_image_is_checked_once_more),
        dir_test(what_newer_rules_refuse_gets_no_new_overlay),
        dir_test(what_is_remembered_is_of_that_file_and_those_rules),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
