/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* What is shown of a swap before there is one is what it defines (engine/swap_preview.c). Row G10. */
#include "base/error.h"
#include "engine/support.h"
#include "engine/swap_preview.h"
#include "hv/domain_xml.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#define SECRET "pa55word"

static void preview(World *world, int to_generation, VrPreview *shown)
{
    g_autoptr(GError) error = NULL;
    const VrPreviewRequest request = {.set_name = world->owner->set_name,
                                      .uuid = FAKE_UUID,
                                      .os_target = "vda",
                                      .image = to_generation < 0 ? world->image : NULL,
                                      .to_generation = (guint)MAX(0, to_generation),
                                      .full_clone = world->full,
                                      .seed = world->seed != NULL};

    if (!vr_swap_preview(world->store, &world->fake->hv, world->journal, &request, shown, &error))
        fail_msg("no preview: %s", error->message);
}

/* As a person sees it, without the swap's own name. */
static char *configured(World *world)
{
    g_autoptr(GRegex) swap = g_regex_new(" swap=\"[^\"]*\"", 0, 0, NULL);
    g_autofree char *xml = vr_hv_public_xml(&world->fake->hv, FAKE_UUID, NULL);
    g_autofree char *printed = vr_domain_xml_as_libvirt(xml, NULL);

    return g_regex_replace_literal(swap, printed, -1, 0, " swap=\"" VR_PREVIEW_SWAP_ID "\"", 0, NULL);
}

/* A swap does what was shown of it, and showing it did nothing. */
static void check(World *world, int to_generation)
{
    g_auto(VrPreview) shown = {0};
    g_auto(VrPreview) again = {0};
    g_autofree char *before = configured(world);
    g_autofree char *after = NULL;

    preview(world, to_generation, &again);
    preview(world, to_generation, &shown);
    assert_string_equal(again.after, shown.after);
    world_swap(world, to_generation);
    after = configured(world);
    assert_string_equal(shown.after, after);
    assert_string_not_equal(before, after);
    assert_int_equal(shown.generation, world_current(world));
}

static void there_and_back(World *world)
{
    check(world, -1);
    check(world, -1);
    check(world, 1);
    check(world, 0);
    check(world, 2);
    world_check(world, TRUE);
}

static void test_overlay(void **state) /* G10 */
{
    g_autoptr(World) world = world_new(TRUE);

    there_and_back(world);
}

static void test_full_clone(void **state) /* G10 */
{
    g_autoptr(World) world = world_new(TRUE);

    world->full = TRUE;
    there_and_back(world);
}

static void test_nvram(void **state) /* G10 B14 */
{
    g_autoptr(World) world = world_new_uefi(TRUE, WORLD_NVRAM, FALSE);

    there_and_back(world);
}

static void test_seed(void **state) /* G10 C1 */
{
    g_autoptr(World) world = world_new(TRUE);
    VrSeed seed = {.user_data = g_bytes_new_static("#cloud-config\n", 14),
                   .meta_data = g_bytes_new_static("local-hostname: web-0\n", 22)};

    world->seed = &seed;
    there_and_back(world);
    g_bytes_unref(seed.user_data);
    g_bytes_unref(seed.meta_data);
}

/* A directory that a swap makes is not made; and the first swap of a guest records its generation 0, a preview does not. */
static void test_writes_nothing(void **state) /* G10 */
{
    g_autoptr(World) world = world_new(TRUE);
    g_auto(VrPreview) shown = {0};
    g_autofree char *directory = vr_store_instance_path(world->store, FAKE_UUID);
    g_autoptr(GPtrArray) generations = NULL;

    preview(world, -1, &shown);
    assert_false(g_file_test(directory, G_FILE_TEST_EXISTS));
    generations = vr_journal_generations(world->journal, FAKE_UUID, NULL);
    assert_int_equal(generations->len, 0);
}

/* The engine keeps what libvirt hides from people. */
static void test_secret(void **state) /* G10 */
{
    g_autoptr(World) world = world_new(TRUE);
    g_auto(VrPreview) shown = {0};
    g_autofree char *kept = NULL;

    fake_hv_edit(world->fake, "</devices>", "<graphics type='vnc' passwd='" SECRET "'/></devices>");
    preview(world, -1, &shown);
    assert_null(strstr(shown.before, SECRET));
    assert_null(strstr(shown.after, SECRET));
    check(world, -1);
    kept = vr_hv_inactive_xml(&world->fake->hv, FAKE_UUID, NULL);
    assert_non_null(strstr(kept, SECRET));
}

/* Somebody gave it another disk: a swap would be refused, and so is its preview. */
static void test_another_disk(void **state) /* G10 */
{
    g_autoptr(World) world = world_new(TRUE);
    g_autoptr(GError) error = NULL;
    g_auto(VrPreview) shown = {0};
    const VrPreviewRequest request = {.set_name = "s", .uuid = FAKE_UUID, .os_target = "vda", .image = world->image};

    world_swap(world, -1);
    fake_hv_edit(world->fake, "/g1.qcow2", "/other.qcow2");
    assert_false(vr_swap_preview(world->store, &world->fake->hv, world->journal, &request, &shown, &error));
    assert_true(g_error_matches(error, VR_ERROR, VR_ERROR_CONFLICT));
    assert_null(shown.before);
    assert_null(shown.after);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_overlay),      cmocka_unit_test(test_full_clone),     cmocka_unit_test(test_nvram),
        cmocka_unit_test(test_seed),         cmocka_unit_test(test_writes_nothing), cmocka_unit_test(test_secret),
        cmocka_unit_test(test_another_disk),
    };

    world_quick_clock();
    return cmocka_run_group_tests(tests, NULL, NULL);
}
