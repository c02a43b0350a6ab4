/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* What is read from the first sectors of an image. Row B22. */
#include "disk/stores.h"

#include "disk/image_boot.h"

#define MIB (1024 * 1024)
#define ESP "c12a7328-f81f-11d2-ba4b-00a0c93ec93b"
#define BIOS_BOOT "21686148-6449-6e6f-744e-656564454649"
#define LINUX "0fc63daf-8483-4772-8e79-3d69d8477de4"
#define ROOT_ARM "b921b045-1df0-41c3-af44-4c6f280d3fae"
#define ROOT_PC "4f68bce3-e8cd-4db1-96e7-fbcaf984b709"

/* ---- real partition tables, made by sfdisk ---- */

static void partition(const char *path, const char *script)
{
    g_autofree char *command = g_strdup_printf("printf '%s' | sfdisk -q \"$1\"", script);
    tool("sh", "-c", command, "sh", path);
}

/* As a disk of sectors of 4 KiB has the same table: header and entries in its second and third sector. */
static void widen(char *bytes)
{
    memmove(bytes + 8192, bytes + 1024, 16384);
    memcpy(bytes + 4096, bytes + 512, 512);
    memset(bytes + 512, 0, 512);
    memset(bytes + 1024, 0, 2048);
}

static void put_code(const char *path)
{
    vr_autofd fd = open(path, O_WRONLY | O_CLOEXEC);
    assert_int_equal(pwrite(fd, "\xeb\x63\x90", 3, 0), 3);
}

typedef struct {
    const char *script; /* NULL: no table */
    guint sector;
    gboolean code;
    VrImageBoot is;
} Row;

static const Row rows[] = {
    {NULL, 512, FALSE, {0}},
    {"label: dos\nstart=2048, type=83\n", 512, FALSE, {0}},
    {"label: dos\nstart=2048, type=83\n", 512, TRUE, {.bios = TRUE}},
    {"label: dos\nstart=2048, size=2048, type=ef\nstart=4096, type=83\n", 512, FALSE, {.uefi = TRUE}},
    {"label: gpt\nstart=2048, type=" LINUX "\n", 512, FALSE, {.sector = 512}},
    {"label: gpt\nsize=1M, type=" ESP "\ntype=" LINUX "\n", 512, FALSE, {.uefi = TRUE, .sector = 512}},
    {"label: gpt\nsize=1M, type=" BIOS_BOOT "\ntype=" ROOT_PC "\n", 512, FALSE, {TRUE, FALSE, "x86_64", 512}},
    {"label: gpt\nsize=1M, type=" BIOS_BOOT "\nsize=1M, type=" ESP "\ntype=" ROOT_PC "\n",
     512,
     TRUE,
     {TRUE, TRUE, "x86_64", 512}},
    {"label: gpt\nsize=1M, type=" ESP "\ntype=" ROOT_ARM "\n", 512, FALSE, {FALSE, TRUE, "aarch64", 512}},
    {"label: gpt\nsize=1M, type=" ESP "\ntype=" ROOT_PC "\n", 4096, FALSE, {FALSE, TRUE, "x86_64", 4096}},
};

static void expect_boot(const VrImageBoot *boot, const VrImageBoot *is, gsize row)
{
    if (boot->bios != is->bios || boot->uefi != is->uefi || boot->sector != is->sector ||
        g_strcmp0(boot->arch, is->arch) != 0)
        fail_msg("row %zu: bios %d uefi %d arch %s sector %u", row, boot->bios, boot->uefi,
                 boot->arch ? boot->arch : "-", boot->sector);
}

static void tables_of_sfdisk(void **state)
{
    TestDir *dir = *state;
    for (gsize i = 0; i < G_N_ELEMENTS(rows); i++) {
        g_autofree char *path = in_dir(dir, "a.raw");
        g_autofree char *bytes = NULL;
        gsize length;
        VrImageBoot boot;
        unlink(path);
        tool("truncate", "-s", "8M", path);
        if (rows[i].script)
            partition(path, rows[i].script);
        if (rows[i].code)
            put_code(path);
        assert_true(g_file_get_contents(path, &bytes, &length, NULL));
        if (rows[i].sector == 4096)
            widen(bytes);
        vr_image_boot_decode((const guint8 *)bytes, VR_IMAGE_BOOT_BYTES, &boot);
        expect_boot(&boot, &rows[i].is, i);
        for (gsize cut = 0; cut < 20000; cut += 37) /* whatever is missing: nothing is read behind the end */
            vr_image_boot_decode(memmove(bytes + length - cut, bytes, cut), cut, &boot);
    }
}

/* ---- of a version in the store, in both formats ---- */

static void a_stored_version(void **state)
{
    TestDir *dir = *state;
    g_autoptr(VrStore) store = open_store(dir);
    g_autofree char *raw = in_dir(dir, "a.raw");
    g_autofree char *qcow2 = in_dir(dir, "a.qcow2");
    const Row *row = &rows[7];

    tool("truncate", "-s", "8M", raw);
    partition(raw, row->script);
    put_code(raw);
    tool("qemu-img", "convert", "-f", "raw", "-O", "qcow2", "-o", "cluster_size=4k", raw, qcow2);
    must_publish(dir, store, "raw-one", "1", "a.raw");
    must_publish(dir, store, "qcow2-one", "1", "a.qcow2");
    for (int i = 0; i < 2; i++) {
        g_autoptr(VrImage) image = vr_store_get(store, i ? "raw-one" : "qcow2-one", NULL, NULL);
        VrImageBoot boot;
        assert_int_equal(image->format, i ? VR_FORMAT_RAW : VR_FORMAT_QCOW2);
        assert_true(vr_image_boot_read(store, image, &boot, NULL));
        expect_boot(&boot, &row->is, (gsize)i);
    }
}

/* ---- tables that lie ---- */

static void put_le(guint8 *p, guint64 value, int bytes)
{
    for (int i = 0; i < bytes; i++)
        p[i] = (guint8)(value >> (8 * i));
}

static void headers_that_lie(void **state)
{
    const struct {
        guint64 at, count, each;
    } lies[] = {{G_MAXUINT64, 128, 128},
                {G_MAXUINT64 / 512, 128, 128},
                {2, 0xffffffff, 128},
                {2, 128, 0},
                {2, 128, 0xffffffff},
                {2, 128, 64},
                {0, 128, 128},
                {127, 128, 128},
                {127, 0xffffffff, 0x10000},
                {2, 4, 0x8000}};
    for (gsize i = 0; i < G_N_ELEMENTS(lies); i++) {
        g_autofree guint8 *bytes = g_malloc0(VR_IMAGE_BOOT_BYTES); /* so that ASan sees the end */
        VrImageBoot boot;
        memcpy(bytes + 512, "EFI PART", 8);
        put_le(bytes + 512 + 72, lies[i].at, 8);
        put_le(bytes + 512 + 80, lies[i].count, 4);
        put_le(bytes + 512 + 84, lies[i].each, 4);
        vr_image_boot_decode(bytes, VR_IMAGE_BOOT_BYTES, &boot);
        assert_false(boot.bios || boot.uefi || boot.arch);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(tables_of_sfdisk, test_dir_setup, test_dir_teardown),
        cmocka_unit_test_setup_teardown(a_stored_version, test_dir_setup, test_dir_teardown),
        cmocka_unit_test(headers_that_lie),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
