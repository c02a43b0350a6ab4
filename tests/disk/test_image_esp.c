/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* The loaders in an image's EFI system partition: real FAT file systems made by mkfs.vfat and mtools, and hostile ones. Row B22. */
#include "disk/stores.h"

#include "base/clock.h"

#include <glib/gstdio.h>

#define MIB (1024 * 1024)
#define ESP_AT MIB
#define ENOUGH ((guint64)1 << 30)

/* ---- making one ---- */

static void shell(const TestDir *dir, const char *script)
{
    g_autofree char *command = g_strconcat("set -e; cd \"$1\"; ", script, NULL);
    tool("sh", "-c", command, "sh", dir->path);
}

/* The begin of a PE file: a loader has its machine's number behind "PE\0\0". */
static void put_pe(const TestDir *dir, const char *name, guint16 machine, guint32 at)
{
    guint8 bytes[8192] = "MZ";
    const guint32 offset = GUINT32_TO_LE(at);
    const guint16 number = GUINT16_TO_LE(machine);
    memcpy(bytes + 0x3c, &offset, 4);
    if (at + 6 <= sizeof bytes) {
        memcpy(bytes + at, "PE\0\0", 4);
        memcpy(bytes + at + 4, &number, 2);
    }
    put_file(dir, name, bytes, sizeof bytes);
}

static void put_loaders(const TestDir *dir)
{
    put_pe(dir, "x64", 0x8664, 0x80);
    put_pe(dir, "ia32", 0x14c, 0x80);
    put_pe(dir, "aa64", 0xaa64, 0xf8);
    put_pe(dir, "riscv64", 0x5064, 0x40);
    put_pe(dir, "far", 0x8664, 4095);
    put_pe(dir, "beyond", 0x8664, 0xfffffff0);
    put_pe(dir, "unknown", 0x1234, 0x80);
    put_file(dir, "text", "no loader", 9);
}

/* disk.raw from the file system in the file esp. */
static void put_disk(const TestDir *dir, gboolean gpt)
{
    shell(dir, gpt ? "truncate -s $(($(stat -c %s esp) + 3145728)) disk.raw;"
                     "printf 'label: gpt\\nstart=2048, size=%s, type=U\\ntype=L\\n' $(($(stat -c %s esp) / 512)) |"
                     " sfdisk -q disk.raw; dd if=esp of=disk.raw bs=1M seek=1 conv=notrunc,sparse status=none"
                   : "truncate -s $(($(stat -c %s esp) + 3145728)) disk.raw;"
                     "printf 'label: dos\\nstart=2048, size=%s, type=ef\\ntype=83\\n' $(($(stat -c %s esp) / 512)) |"
                     " sfdisk -q disk.raw; dd if=esp of=disk.raw bs=1M seek=1 conv=notrunc,sparse status=none");
}

/* ---- looking ---- */

static gboolean look_with(const TestDir *dir, guint64 max_bytes, const gint *cancelled, VrImageBoot *boot,
                          GError **error)
{
    vr_autofd fd = vr_open_beneath(dir->fd, "disk.raw", O_RDONLY, 0, NULL);
    const VrImageEsp esp = {fd, VR_FORMAT_RAW, dir->fd, max_bytes, cancelled};
    assert_true(vr_image_boot_look(fd, VR_FORMAT_RAW, boot, NULL));
    assert_true(boot->uefi);
    assert_int_equal(boot->esp_at, ESP_AT);
    gboolean known = vr_image_boot_loaders(&esp, boot, error);
    assert_int_equal(boot->loaders_known, known);
    assert_int_not_equal(faccessat(dir->fd, "esp", F_OK, 0), 0);
    return known;
}

static char *text_of(const VrImageBoot *boot)
{
    g_autoptr(GString) text = g_string_new(boot->arch ? boot->arch : "-");
    for (guint i = 0; i < boot->n_loaders; i++)
        g_string_append_printf(text, " %s=%s", strrchr(boot->loaders[i].path, '\\') + 1,
                               boot->loaders[i].arch ? boot->loaders[i].arch : "-");
    return g_string_free(g_steal_pointer(&text), FALSE);
}

static void expect_loaders(const TestDir *dir, const char *expected)
{
    GError *error = NULL;
    VrImageBoot boot;
    gboolean known = look_with(dir, ENOUGH, NULL, &boot, &error);
    expect_no_error(error);
    assert_true(known);
    g_autofree char *text = text_of(&boot);
    assert_string_equal(text, expected);
}

static const struct {
    const char *make;    /* of the file system in the file esp */
    const char *loaders; /* architecture of the image, then the files */
} rows[] = {
    {"truncate -s 4M esp; mkfs.vfat esp >/dev/null", "-"},
    {"truncate -s 4M esp; mkfs.vfat esp >/dev/null; mmd -i esp ::/EFI", "-"},
    {"truncate -s 4M esp; mkfs.vfat esp >/dev/null; mmd -i esp ::/EFI ::/EFI/BOOT ::/EFI/debian;"
     "mcopy -i esp x64 ::/EFI/debian/grubx64.efi",
     "-"},
    {"truncate -s 4M esp; mkfs.vfat -F 12 esp >/dev/null; mmd -i esp ::/EFI ::/EFI/BOOT;"
     "mcopy -i esp x64 ::/EFI/BOOT/BOOTX64.EFI",
     "x86_64 BOOTX64.EFI=x86_64"},
    {"truncate -s 33000K esp; mkfs.vfat -F 16 esp >/dev/null; mmd -i esp ::/efi ::/efi/Boot;"
     "mcopy -i esp aa64 ::/efi/Boot/bootaa64.efi",
     "aarch64 BOOTAA64.EFI=aarch64"},
    {"truncate -s 100M esp; mkfs.vfat -F 32 esp >/dev/null; mmd -i esp ::/EFI ::/EFI/BOOT;"
     "mcopy -i esp riscv64 ::/EFI/BOOT/BOOTRISCV64.EFI; mcopy -i esp text ::/EFI/BOOT/fbx64.efi",
     "riscv64 BOOTRISCV64.EFI=riscv64"},
    {"truncate -s 4M esp; mkfs.vfat esp >/dev/null; mmd -i esp ::/EFI ::/EFI/BOOT;"
     "mcopy -i esp x64 ::/EFI/BOOT/BOOTX64.EFI; mcopy -i esp ia32 ::/EFI/BOOT/BOOTIA32.EFI",
     "- BOOTX64.EFI=x86_64 BOOTIA32.EFI=i686"},
    {"truncate -s 4M esp; mkfs.vfat esp >/dev/null; mmd -i esp ::/EFI ::/EFI/BOOT ::/EFI/BOOT/BOOTIA32.EFI;"
     "mcopy -i esp text ::/EFI/BOOT/BOOTX64.EFI",
     "- BOOTX64.EFI=-"},
    {"truncate -s 4M esp; mkfs.vfat esp >/dev/null; mmd -i esp ::/EFI ::/EFI/BOOT;"
     "mcopy -i esp far ::/EFI/BOOT/BOOTX64.EFI",
     "- BOOTX64.EFI=-"},
    {"truncate -s 4M esp; mkfs.vfat esp >/dev/null; mmd -i esp ::/EFI ::/EFI/BOOT;"
     "mcopy -i esp beyond ::/EFI/BOOT/BOOTX64.EFI; mcopy -i esp unknown ::/EFI/BOOT/BOOTARM.EFI",
     "- BOOTX64.EFI=- BOOTARM.EFI=-"},
};

static void real_partitions(void **state)
{
    TestDir *dir = *state;
    put_loaders(dir);
    for (gsize i = 0; i < G_N_ELEMENTS(rows); i++) {
        g_autofree char *make = g_strconcat("rm -f esp disk.raw; ", rows[i].make, NULL);
        shell(dir, make);
        put_disk(dir, i % 2 == 0);
        shell(dir, "mv esp made");
        expect_loaders(dir, rows[i].loaders);
    }
}

/* ---- limits ---- */

static void bounded_and_called_off(void **state)
{
    TestDir *dir = *state;
    GError *error = NULL;
    const gint cancelled = 1;
    VrImageBoot boot;

    put_loaders(dir);
    shell(dir, rows[3].make);
    put_disk(dir, TRUE);
    shell(dir, "rm esp");
    assert_false(look_with(dir, 4096, NULL, &boot, &error));
    expect_error(&error, VR_ERROR_NO_SPACE, "and 4096 can be looked at");
    assert_false(look_with(dir, ENOUGH, &cancelled, &boot, &error));
    expect_error(&error, VR_ERROR_CANCELLED, "cancelled");
    shell(dir, "truncate -s 3M disk.raw"); /* the partition ends behind the disk */
    assert_false(look_with(dir, ENOUGH, NULL, &boot, &error));
    expect_error(&error, VR_ERROR_INVALID, "does not lie in the disk");
    assert_int_equal(boot.n_loaders, 0);
}

/* ---- hostile ones ---- */

static guint16 le16_at(const TestDir *dir, off_t at)
{
    guint8 bytes[2];
    gsize got;
    vr_autofd fd = vr_open_beneath(dir->fd, "esp", O_RDONLY, 0, NULL);
    assert_true(vr_pread_all(fd, bytes, 2, (guint64)at, &got, NULL));
    return (guint16)(bytes[0] | bytes[1] << 8);
}

static void put_at(const TestDir *dir, off_t at, const void *bytes, gsize length)
{
    vr_autofd fd = vr_open_beneath(dir->fd, "esp", O_WRONLY, 0, NULL);
    assert_int_equal(pwrite(fd, bytes, length, at), (gssize)length);
}

/* FAT16 of sectors as clusters; \EFI is cluster 2, \EFI\BOOT cluster 3. */
static void put_fat(const TestDir *dir, off_t *fat, off_t *cluster3)
{
    shell(dir, "rm -f esp disk.raw; truncate -s 16M esp; mkfs.vfat -F 16 -s 1 -f 1 esp >/dev/null;"
               "mmd -i esp ::/EFI ::/EFI/BOOT");
    *fat = le16_at(dir, 14) * 512;
    *cluster3 = *fat + le16_at(dir, 22) * 512 + le16_at(dir, 17) * 32 + 512;
}

static void put_entries(guint8 *sector, const char *name)
{
    for (int i = 0; i < 16; i++) {
        memset(sector + i * 32, 0, 32);
        memcpy(sector + i * 32, name, 11);
        sector[i * 32 + 11] = 0x20;
    }
}

static void loop_of(const TestDir *dir, const char *name)
{
    off_t fat, cluster3;
    guint8 sector[512];
    const guint8 itself[2] = {3, 0};
    put_fat(dir, &fat, &cluster3);
    put_entries(sector, name);
    put_at(dir, cluster3, sector, sizeof sector);
    put_at(dir, fat + 6, itself, 2);
}

static void loop_of_files(const TestDir *dir)
{
    loop_of(dir, "A       TXT");
}

static void loop_of_deleted(const TestDir *dir)
{
    loop_of(dir, "\xe5       TXT");
}

static void loop_of_loaders(const TestDir *dir)
{
    loop_of(dir, "BOOTX64 EFI");
}

/* Its chain goes through nearly all clusters. */
static void huge_directory(const TestDir *dir)
{
    off_t fat, cluster3;
    g_autofree guint16 *chain = g_new(guint16, 30000);
    g_autofree guint8 *entries = g_malloc(30000 * 512);
    put_fat(dir, &fat, &cluster3);
    for (guint i = 0; i < 30000; i++) {
        chain[i] = GUINT16_TO_LE((guint16)(i == 29999 ? 0xffff : i + 4));
        put_entries(entries + (gsize)i * 512, i % 2 ? "\xe5       TXT" : "A       TXT");
    }
    put_at(dir, fat + 6, chain, 60000);
    put_at(dir, cluster3, entries, (gsize)30000 * 512);
}

static void garbage(const TestDir *dir)
{
    make_raw(dir, "esp", 4 * MIB, 7);
}

static void garbage_with_a_boot_sector(const TestDir *dir)
{
    shell(dir, "rm -f esp; truncate -s 4M esp; mkfs.vfat esp >/dev/null; head -c 4M /dev/urandom > noise;"
               "dd if=esp of=noise bs=512 count=1 conv=notrunc status=none; mv noise esp");
}

static void zeros(const TestDir *dir)
{
    shell(dir, "rm -f esp; truncate -s 4M esp");
}

static void (*const hostile[])(const TestDir *) = {
    loop_of_files, loop_of_deleted, loop_of_loaders, huge_directory, garbage, garbage_with_a_boot_sector, zeros};

/* Each costs its limit only, tells nothing, and is published like any other image; nothing stays behind. */
static void hostile_partitions(void **state)
{
    TestDir *dir = *state;
    g_autoptr(VrStore) store = open_store(dir);
    for (gsize i = 0; i < G_N_ELEMENTS(hostile); i++) {
        g_autofree char *version = g_strdup_printf("%zu", i + 1);
        gint64 before = vr_clock_now_ms();
        VrImageBoot boot;
        hostile[i](dir);
        shell(dir, "rm -f disk.raw");
        put_disk(dir, TRUE);
        must_publish(dir, store, "os", version, "disk.raw");
        g_autoptr(VrImage) image = vr_store_get(store, "os", version, NULL);
        assert_true(image->boot_recorded);
        assert_true(vr_image_boot_read(store, image, &boot, NULL));
        assert_true(boot.uefi);
        if (boot.loaders_known || boot.n_loaders)
            fail_msg("hostile %zu: loaders are known", i);
        if (vr_clock_now_ms() - before > 60000)
            fail_msg("hostile %zu took %d ms", i, (int)(vr_clock_now_ms() - before));
        g_autofree char *left = listing(dir);
        assert_null(strstr(left, ".tmp-"));
    }
}

/* ---- the record ---- */

static void expect_record(VrStore *store, const char *name, gboolean loaders)
{
    GError *error = NULL;
    VrImageBoot boot;
    g_autoptr(VrImage) image = vr_store_get(store, name, NULL, &error);
    expect_no_error(error);
    assert_int_equal(image->boot_recorded, loaders);
    assert_true(vr_image_boot_read(store, image, &boot, NULL));
    assert_true(boot.uefi);
    assert_false(boot.bios);
    assert_int_equal(boot.sector, 512);
    g_autofree char *text = text_of(&boot);
    assert_string_equal(text, loaders ? "x86_64 BOOTX64.EFI=x86_64" : "-");
    assert_int_equal(boot.loaders_known, loaders);
}

static void rewrite(const TestDir *dir, const char *name, const char *change)
{
    g_autofree char *script =
        g_strdup_printf("cd root/images/%s/1; python3 -c 'import json, os; d = json.load(open(\"image.json\"));"
                        " %s; os.unlink(\"image.json\"); json.dump(d, open(\"image.json\", \"w\"))'",
                        name, change);
    shell(dir, script);
}

/* In both formats; a version without the record works as before, and a damaged record is seen. */
static void published_and_recorded(void **state)
{
    TestDir *dir = *state;
    GError *error = NULL;
    g_autoptr(VrStore) store = open_store(dir);
    put_loaders(dir);
    shell(dir, rows[3].make);
    put_disk(dir, TRUE);
    shell(dir, "qemu-img convert -f raw -O qcow2 -o cluster_size=4k disk.raw disk.qcow2");
    must_publish(dir, store, "raw-one", "1", "disk.raw");
    must_publish(dir, store, "qcow2-one", "1", "disk.qcow2");
    expect_record(store, "raw-one", TRUE);
    expect_record(store, "qcow2-one", TRUE);
    g_autofree char *left = listing(dir);
    assert_null(strstr(left, ".tmp-"));
    assert_null(strstr(left, "/esp"));

    rewrite(dir, "raw-one", "d.pop(\"boot\")");
    expect_record(store, "raw-one", FALSE);
    rewrite(dir, "qcow2-one",
            "d[\"boot\"][\"architecture\"] = \"pdp11\"; d[\"boot\"][\"fallbackLoaders\"][0][\"path\"] = \"/x\"");
    g_autoptr(VrImage) later = vr_store_get(store, "qcow2-one", NULL, &error);
    expect_no_error(error);
    assert_null(later->boot.arch);
    assert_int_equal(later->boot.n_loaders, 0);
    rewrite(dir, "qcow2-one", "d[\"boot\"][\"fallbackLoaders\"] = 7");
    g_autoptr(VrImage) damaged = vr_store_get(store, "qcow2-one", "1", &error);
    assert_null(damaged);
    expect_error(&error, VR_ERROR_INVALID, "damaged: boot");
}

/* Without mtools an image is published all the same. */
static void without_mtools(void **state)
{
    TestDir *dir = *state;
    g_autofree char *path = g_strdup(g_getenv("PATH"));
    g_autoptr(VrStore) store = open_store(dir);
    VrImageBoot boot;
    put_loaders(dir);
    shell(dir, rows[3].make);
    put_disk(dir, TRUE);
    shell(dir, "mkdir bin; ln -s $(command -v qemu-img) bin/");
    g_autofree char *bin = in_dir(dir, "bin");
    g_setenv("PATH", bin, TRUE);
    must_publish(dir, store, "os", "1", "disk.raw");
    g_setenv("PATH", path, TRUE);
    g_autoptr(VrImage) image = vr_store_get(store, "os", "1", NULL);
    assert_true(vr_image_boot_read(store, image, &boot, NULL));
    assert_true(boot.uefi);
    assert_false(boot.loaders_known);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(real_partitions, test_dir_setup, test_dir_teardown),
        cmocka_unit_test_setup_teardown(bounded_and_called_off, test_dir_setup, test_dir_teardown),
        cmocka_unit_test_setup_teardown(hostile_partitions, test_dir_setup, test_dir_teardown),
        cmocka_unit_test_setup_teardown(published_and_recorded, test_dir_setup, test_dir_teardown),
        cmocka_unit_test_setup_teardown(without_mtools, test_dir_setup, test_dir_teardown),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
