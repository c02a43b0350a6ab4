/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Personalisation without an appliance: what may be asked, how it goes to the child and back, who may share. Row C6. */
#include "disk/images.h"

#include "disk/personalize_private.h"

#define KEY "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIGx2 admin@site"

/* ---- the rules ---- */

static VrPersonal *a_disk(void)
{
    return vr_personal_new("/srv/g1.qcow2", VR_FORMAT_QCOW2);
}

static void expect_refused(VrPersonal *personal, const char *text)
{
    g_autoptr(GError) error = NULL;
    assert_false(vr_personal_check(personal, &error));
    if (!strstr(error->message, "/srv/g1.qcow2"))
        fail_msg("%s: names no disk", error->message);
    expect_error(&error, VR_ERROR_INVALID, text);
    vr_personal_free(personal);
}

static void host_names(void **state)
{
    static const char *const bad[] = {"",
                                      "a\nb",
                                      "$(reboot)",
                                      "-a",
                                      "a-",
                                      "a..b",
                                      "a_b",
                                      "a b",
                                      "\xff",
                                      "a/b",
                                      "a1234567890123456789012345678901234567890123456789012345678901234"};
    static const char *const good[] = {"a", "web-0", "web-0.example.org", "7"};
    for (gsize i = 0; i < G_N_ELEMENTS(bad); i++) {
        VrPersonal *personal = a_disk();
        personal->hostname = g_strdup(bad[i]);
        expect_refused(personal, "the host name");
    }
    for (gsize i = 0; i < G_N_ELEMENTS(good); i++) {
        g_autoptr(VrPersonal) personal = a_disk();
        personal->hostname = g_strdup(good[i]);
        assert_true(vr_personal_check(personal, NULL));
    }
}

static void machine_ids_and_timezones(void **state)
{
    static const char *const bad_ids[] = {"x", "00000000000000000000000000000000", "ABCDEF00000000000000000000000000",
                                          "abcdef0000000000000000000000000", "abcdef00000000000000000000000000\n"};
    static const char *const bad_zones[] = {"", "/etc/shadow", "../../../etc/shadow", "Europe/../..", "a b", "Europe/"};
    for (gsize i = 0; i < G_N_ELEMENTS(bad_ids); i++) {
        VrPersonal *personal = a_disk();
        personal->machine_id = g_strdup(bad_ids[i]);
        expect_refused(personal, "the machine-id");
    }
    for (gsize i = 0; i < G_N_ELEMENTS(bad_zones); i++) {
        VrPersonal *personal = a_disk();
        personal->timezone = g_strdup(bad_zones[i]);
        expect_refused(personal, "the timezone");
    }
}

static void keys(void **state)
{
    static const struct {
        const char *user, *key, *text;
    } bad[] = {{"debian", "command=\"/bin/sh\" " KEY, "options before it are refused"},
               {"debian", "no-pty " KEY, "options before it are refused"},
               {"debian", KEY "\n" KEY, "must be one line"},
               {"debian", "ssh-ed25519", "is no public key"},
               {"debian", "ssh-ed25519 AAAA$(id)AAAAAAAAAAA", "is no public key"},
               {"a:b", KEY, "the user"},
               {"a\nb", KEY, "the user"},
               {"", KEY, "the user"}};
    for (gsize i = 0; i < G_N_ELEMENTS(bad); i++) {
        VrPersonal *personal = a_disk();
        vr_personal_add_key(personal, bad[i].user, bad[i].key);
        expect_refused(personal, bad[i].text);
    }
}

static void paths(void **state)
{
    static const char *const bad[] = {"",      "/",       "etc/x",     "/etc/../shadow", "/etc//x",       "/etc/./x",
                                      "/etc/", "/proc/1", "/dev/sda1", "/etc/a\nb",      "/etc/\xff\xfe", "/run/x"};
    g_autofree char *name = g_strnfill(256, 'n');
    g_autofree char *longer = g_strconcat("/etc/", name, NULL);
    for (gsize i = 0; i < G_N_ELEMENTS(bad); i++)
        if (vr_personal_path_check(bad[i], NULL))
            fail_msg("'%s' was taken", bad[i]);
    assert_false(vr_personal_path_check(longer, NULL));
    assert_true(vr_personal_path_check("/etc/...", NULL));
    assert_true(vr_personal_path_check("/device", NULL)); /* not beneath /dev */
}

static void files(void **state)
{
    VrPersonal *personal = a_disk();
    vr_personal_add_file(personal->files, "/usr/bin/x", 04755, NULL, "x", 1);
    expect_refused(personal, "the mode of");
    personal = a_disk();
    vr_personal_add_file(personal->files, "/etc/x", 0644, "a:b:c", "x", 1);
    expect_refused(personal, "the owner");
    personal = a_disk();
    vr_personal_add_file(personal->files, "/etc/group", 0644, NULL, "x", 1);
    expect_refused(personal, "where owners are looked up");
    personal = a_disk();
    vr_personal_add_file(personal->network, "/etc/shadow", 0644, NULL, "x", 1);
    expect_refused(personal, "the network file");
    personal = a_disk();
    vr_personal_add_file(personal->host_keys, "../../root/.ssh/authorized_keys", 0, NULL, "x", 1);
    expect_refused(personal, "the host key");
    personal = a_disk();
    personal->first_boot = g_bytes_new_static("reboot\n", 7);
    expect_refused(personal, "'#!'");
    personal = a_disk();
    personal->unattend = g_bytes_new_static("<unattend>\xff", 11);
    expect_refused(personal, "the answer file for Windows");
    personal = a_disk();
    personal->unattend = g_bytes_new_static("<?xml version=\"1.0\"?>", 21);
    expect_refused(personal, "an element 'unattend'");
    personal = a_disk();
    g_autofree char *large = g_malloc0(VR_PERSONAL_MAX_BYTES + 1);
    vr_personal_add_file(personal->files, "/etc/x", 0644, NULL, large, VR_PERSONAL_MAX_BYTES + 1);
    expect_refused(personal, "larger than 16 MiB");
    personal = a_disk();
    for (guint i = 0; i <= VR_PERSONAL_MAX_FILES; i++)
        vr_personal_add_file(personal->files, "/etc/x", 0644, NULL, "x", 1);
    expect_refused(personal, "are more than");
}

static void expect_kind_refused(VrGuestFileKind kind, const char *data, gsize length, const char *text)
{
    VrPersonal *personal = a_disk();
    g_ptr_array_add(personal->files, vr_guest_file_new(kind, "/etc/x", 0700, NULL, data, length));
    expect_refused(personal, text);
}

static void directories_and_links(void **state)
{
    g_autofree char *longer = g_strnfill(4096, 'l');
    expect_kind_refused(VR_GUEST_FILE_DIRECTORY, "x", 1, "has content");
    expect_kind_refused(VR_GUEST_FILE_LINK, "", 0, "leads to a path that is empty");
    expect_kind_refused(VR_GUEST_FILE_LINK, "a\0b", 3, "has a NUL");
    expect_kind_refused(VR_GUEST_FILE_LINK, longer, 4096, "longer than 4095 bytes");
    VrPersonal *personal = a_disk();
    g_ptr_array_add(personal->files, vr_guest_file_new(VR_GUEST_FILE_DIRECTORY, "/etc/x", 04755, NULL, "", 0));
    expect_refused(personal, "the mode of");
    personal = a_disk();
    g_ptr_array_add(personal->host_keys,
                    vr_guest_file_new(VR_GUEST_FILE_LINK, "ssh_host_rsa_key", 0, NULL, "/etc/shadow", 11));
    expect_refused(personal, "is no regular file");
    personal = a_disk();
    g_ptr_array_add(personal->network, vr_guest_file_new(VR_GUEST_FILE_DIRECTORY, "/etc/netplan/x", 0, NULL, "", 0));
    expect_refused(personal, "is no regular file");
    personal = a_disk();
    g_ptr_array_add(personal->files, vr_guest_file_new(VR_GUEST_FILE_DIRECTORY, "/etc/x", 03777, "33:4", NULL, 0));
    g_ptr_array_add(personal->files, vr_guest_file_new(VR_GUEST_FILE_LINK, "/etc/y", 0777, "33:4", longer, 4095));
    g_ptr_array_add(personal->files, vr_guest_file_new(VR_GUEST_FILE_LINK, "/etc/z", 07777, NULL, "../\n\xff", 5));
    assert_true(vr_personal_check(personal, NULL));
    vr_personal_free(personal);
}

/* ---- there and back ---- */

static VrPersonalRequest *a_request(void)
{
    VrPersonalRequest *request = g_new0(VrPersonalRequest, 1);
    VrPersonal *personal = a_disk();
    request->seconds = 60;
    request->work_dir = g_strdup("/srv/work");
    request->disks = g_ptr_array_new_with_free_func((GDestroyNotify)vr_personal_free);
    g_ptr_array_add(request->disks, personal);
    personal->hostname = g_strdup("web-0");
    personal->machine_id = g_strdup("");
    vr_personal_add_file(personal->files, "/etc/x", 0640, "root:adm", "a\0\n\xff", 4);
    g_ptr_array_add(personal->files, vr_guest_file_new(VR_GUEST_FILE_DIRECTORY, "/etc/d", 0750, "33:4", NULL, 0));
    g_ptr_array_add(personal->files, vr_guest_file_new(VR_GUEST_FILE_LINK, "/etc/d/l", 0, NULL, "\xff/\n", 3));
    vr_personal_add_key(personal, "debian", KEY);
    personal->first_boot = g_bytes_new_static("#!/bin/sh\n", 10);
    personal->unattend = g_bytes_new_static("<unattend/>", 11);
    return request;
}

static void a_request_comes_over_whole(void **state)
{
    g_autoptr(VrPersonalRequest) request = a_request();
    g_autoptr(GError) error = NULL;
    char *text = vr_personal_request_write(request);
    g_autoptr(VrPersonalRequest) back = vr_personal_request_read(text, strlen(text), &error);
    expect_no_error(error);
    const VrPersonal *disk = back->disks->pdata[0], *sent = request->disks->pdata[0];
    const VrGuestFile *file = disk->files->pdata[0];
    const VrPersonalKeys *of_user = disk->authorized->pdata[0];
    assert_int_equal(back->seconds, 60);
    assert_string_equal(disk->disk, "/srv/g1.qcow2");
    assert_int_equal(disk->format, VR_FORMAT_QCOW2);
    assert_string_equal(disk->hostname, "web-0");
    assert_string_equal(disk->machine_id, "");
    assert_null(disk->timezone);
    assert_string_equal(file->path, "/etc/x");
    assert_int_equal(file->mode, 0640);
    assert_string_equal(file->owner, "root:adm");
    assert_int_equal(g_bytes_get_size(file->data), 4);
    assert_memory_equal(g_bytes_get_data(file->data, NULL), "a\0\n\xff", 4);
    assert_true(vr_guest_files_same(disk->files, sent->files));
    assert_string_equal(of_user->keys->pdata[0], KEY);
    assert_int_equal(g_bytes_get_size(disk->first_boot), 10);
    assert_int_equal(g_bytes_get_size(disk->unattend), 11);
    char *again = vr_personal_request_write(back);
    assert_string_equal(again, text);
    vr_personal_text_free(again);
    vr_personal_text_free(text);
}

static void a_copy_is_the_same_for_another_disk(void **state)
{
    g_autoptr(VrPersonalRequest) request = a_request();
    VrPersonal *full = request->disks->pdata[0];
    full->timezone = g_strdup("Europe/Berlin");
    full->no_relabel = TRUE;
    vr_personal_add_file(full->host_keys, "ssh_host_rsa_key", 0, NULL, "key", 3);
    vr_personal_add_file(full->network, "/etc/netplan/x", 0, NULL, "x", 1);
    vr_personal_add_key(full, "root", KEY);
    VrPersonal *copy = vr_personal_copy(full, "/srv/g2.raw", VR_FORMAT_RAW);
    assert_string_equal(copy->disk, "/srv/g2.raw");
    assert_int_equal(copy->format, VR_FORMAT_RAW);
    g_autoptr(VrPersonal) back = vr_personal_copy(copy, full->disk, full->format);
    vr_personal_free(copy);
    char *text = vr_personal_request_write(request);
    request->disks->pdata[0] = back;
    char *again = vr_personal_request_write(request);
    request->disks->pdata[0] = full;
    assert_string_equal(again, text);
    vr_personal_text_free(again);
    vr_personal_text_free(text);
}

/* Every request that is cut or has one byte changed is read or refused, and what is read passes the rules. */
static void a_damaged_request_is_no_harm(void **state)
{
    g_autoptr(VrPersonalRequest) request = a_request();
    char *text = vr_personal_request_write(request);
    gsize length = strlen(text);
    for (gsize i = 0; i < length; i++) {
        g_autofree char *copy = g_strdup(text);
        copy[i] ^= 0x15;
        g_autoptr(VrPersonalRequest) changed = vr_personal_request_read(copy, length, NULL);
        g_autoptr(VrPersonalRequest) cut = vr_personal_request_read(text, i, NULL);
        assert_null(cut);
        assert_true(!changed || vr_personal_check(changed->disks->pdata[0], NULL));
    }
    vr_personal_text_free(text);
}

/* ---- files that were read ---- */

static void a_request_to_read_comes_over(void **state)
{
    static const char *const good[] = {"/etc/machine-id", "/var/lib/shop", NULL}, *const bad[] = {"/etc/../x", NULL},
                             *const none[] = {NULL}, *const *const rows[] = {good, bad, none};
    g_autoptr(VrPersonalRequest) request = a_request();
    for (gsize i = 0; i < G_N_ELEMENTS(rows); i++) {
        request->read = (char **)rows[i];
        char *text = vr_personal_request_write(request);
        g_autoptr(VrPersonalRequest) back = vr_personal_request_read(text, strlen(text), NULL);
        assert_int_equal(back != NULL, i == 0);
        assert_true(!back || g_strv_equal((const char *const *)back->read, good));
        vr_personal_text_free(text);
    }
    request->read = NULL;
}

static const char *const asked[] = {"/etc/machine-id", "/var/lib/shop", NULL};

static GPtrArray *some_files(void)
{
    GPtrArray *files = vr_guest_files_new();
    g_ptr_array_add(files, vr_guest_file_new(VR_GUEST_FILE_REGULAR, "/etc/machine-id", 0444, "0:0", "a\0\xff", 3));
    g_ptr_array_add(files, vr_guest_file_new(VR_GUEST_FILE_DIRECTORY, "/var/lib/shop", 03750, "33:34", "", 0));
    g_ptr_array_add(files, vr_guest_file_new(VR_GUEST_FILE_LINK, "/var/lib/shop/l", 0, "33:34", "\xff", 1));
    return files;
}

static void files_come_over_whole(void **state)
{
    g_autoptr(GPtrArray) files = some_files();
    g_autoptr(GError) error = NULL;
    char *text = vr_personal_files_write(files);
    g_autoptr(GPtrArray) back = vr_personal_files_read(text, asked, &error);
    expect_no_error(error);
    assert_true(vr_guest_files_same(back, files));
    vr_personal_text_free(text);
}

/* Who reads a disk may have been taken over by it. */
static void hostile_files_are_refused(void **state)
{
#define FILE_OF(path, kind, owner, mode, data)                                                                         \
    "[{\"path\":\"" path "\",\"kind\":\"" kind "\",\"owner\":\"" owner "\",\"mode\":" mode ",\"data\":\"" data "\"}]"
    static const char *const bad[] = {
        "",
        "{}",
        "[1]",
        "[{}]",
        FILE_OF("/etc/shadow", "file", "0:0", "0", ""),
        FILE_OF("/var/lib/shopper", "file", "0:0", "0", ""),
        FILE_OF("/var/lib/shop/../x", "file", "0:0", "0", ""),
        FILE_OF("/var/lib/shop/a\\nb", "file", "0:0", "0", ""),
        FILE_OF("/var/lib/shop/a\\u0000b", "file", "0:0", "0", ""),
        FILE_OF("/var/lib/shop", "device", "0:0", "0", ""),
        FILE_OF("/var/lib/shop", "file", "root", "0", ""),
        FILE_OF("/var/lib/shop", "file", "0:0:0", "0", ""),
        FILE_OF("/var/lib/shop", "file", "-1:0", "0", ""),
        FILE_OF("/var/lib/shop", "file", "0:4294967296", "0", ""),
        FILE_OF("/var/lib/shop", "file", "0:0", "4096", ""),
        FILE_OF("/var/lib/shop", "file", "0:0", "-1", ""),
        FILE_OF("/var/lib/shop", "link", "0:0", "0", "YQBi"),
        FILE_OF("/var/lib/shop", "link", "0:0", "0", ""),
        FILE_OF("/var/lib/shop", "directory", "0:0", "0", "YWI="),
    };
    g_autoptr(GPtrArray) good = vr_personal_files_read(FILE_OF("/var/lib/shop", "file", "0:0", "0", ""), asked, NULL);
    assert_non_null(good);
    for (gsize i = 0; i < G_N_ELEMENTS(bad); i++) {
        g_autoptr(GError) error = NULL;
        if (vr_personal_files_read(bad[i], asked, &error))
            fail_msg("%s was taken", bad[i]);
        assert_int_equal(error->code, VR_ERROR_INVALID);
    }
}

static void too_many_files_are_refused(void **state)
{
    g_autoptr(GPtrArray) many = vr_guest_files_new(), large = vr_guest_files_new();
    g_autofree char *bytes = g_malloc0(VR_GUEST_FILES_MAX_BYTES / 2 + 1);
    for (guint i = 0; i <= VR_GUEST_FILES_MAX; i++)
        vr_personal_add_file(many, "/var/lib/shop", 0, "0:0", "", 0);
    for (guint i = 0; i < 2; i++)
        vr_personal_add_file(large, "/var/lib/shop", 0, "0:0", bytes, VR_GUEST_FILES_MAX_BYTES / 2 + 1);
    const GPtrArray *const rows[] = {many, large};
    for (gsize i = 0; i < G_N_ELEMENTS(rows); i++) {
        char *text = vr_personal_files_write(rows[i]);
        assert_true(strlen(text) < VR_PERSONAL_RESULT_BYTES);
        assert_null(vr_personal_files_read(text, asked, NULL));
        vr_personal_text_free(text);
    }
    g_ptr_array_set_size(many, VR_GUEST_FILES_MAX);
    char *text = vr_personal_files_write(many);
    g_autoptr(GPtrArray) back = vr_personal_files_read(text, asked, NULL);
    assert_int_equal(back->len, VR_GUEST_FILES_MAX);
    vr_personal_text_free(text);
}

/* As of a damaged request. */
static void damaged_files_are_no_harm(void **state)
{
    g_autoptr(GPtrArray) files = some_files();
    char *text = vr_personal_files_write(files);
    gsize length = strlen(text);
    for (gsize i = 0; i < length * 7; i++) {
        g_autofree char *copy = g_strdup(text);
        copy[i / 7] ^= (char)(1 << (i % 7));
        g_autoptr(GPtrArray) changed = vr_personal_files_read(copy, asked, NULL);
        for (guint k = 0; changed && k < changed->len; k++)
            assert_true(vr_personal_path_check(((const VrGuestFile *)changed->pdata[k])->path, NULL));
        copy[i / 7] = '\0';
        assert_null(vr_personal_files_read(copy, asked, NULL));
    }
    vr_personal_text_free(text);
}

static void reports(void **state)
{
    g_autoptr(VrPersonalReport) whole =
        vr_personal_report_read("begin 0\ndone 0\nbegin 1\nfail 1 2 /etc is \x1b[2Ja link\nflushed\n", 2);
    g_autoptr(VrPersonalReport) died = vr_personal_report_read("begin 0\ndone 0\nbegin 1\nflushe", 2);
    g_autoptr(VrPersonalReport) nonsense =
        vr_personal_report_read("done 7\nbegin -1\nfail 99999999999999999999 1 x\ndone\nfail 0 77 x\ndone 0\n", 1);
    assert_true(whole->flushed && whole->done[0] && !whole->done[1] && whole->current == -1);
    expect_error(&whole->errors[1], VR_ERROR_INVALID, "/etc is ?[2Ja link");
    assert_true(!died->flushed && died->done[0] && died->current == 1);
    assert_false(nonsense->done[0]); /* who failed is never done after it */
    expect_error(&nonsense->errors[0], VR_ERROR_FAILED, "x");
}

/* ---- who may share an appliance (SAFETY 4.18) ---- */

#define SIZE (8u << 20)
#define PART 2048u /* first sector of the partition */

static gboolean read_bytes(void *data, guint64 at, guint8 *bytes, gsize length)
{
    if (at > SIZE || length > SIZE - at)
        return FALSE;
    memcpy(bytes, (guint8 *)data + at, length);
    return TRUE;
}

static guint8 *ext_at(guint8 *disk, gsize at)
{
    disk[at + 0x438] = 0x53;
    disk[at + 0x439] = 0xef;
    return disk;
}

static guint8 *mbr_disk(guint8 type)
{
    guint8 *disk = g_malloc0(SIZE);
    const guint8 entry[16] = {[4] = type, [9] = PART >> 8, [13] = 0x20}; /* 0x2000 sectors */
    memcpy(disk + 446, entry, sizeof entry);
    disk[510] = 0x55;
    disk[511] = 0xaa;
    return ext_at(disk, (gsize)PART * 512);
}

static void expect_plain(guint8 *disk, gboolean plain, const char *what)
{
    if (vr_layout_is_plain(read_bytes, disk, SIZE) != plain)
        fail_msg("%s: %s", what, plain ? "not taken as plain" : "taken as plain");
    g_free(disk);
}

static guint8 *with(guint8 *disk, gsize at, const char *bytes, gsize length)
{
    memcpy(disk + at, bytes, length);
    return disk;
}

static void what_is_known_is_plain(void **state)
{
    guint8 *fat = g_malloc0(SIZE);
    expect_plain(ext_at(g_malloc0(SIZE), 0), TRUE, "ext4");
    expect_plain(with(g_malloc0(SIZE), 0, "XFSB", 4), TRUE, "XFS");
    fat[510] = 0x55;
    fat[511] = 0xaa;
    expect_plain(with(fat, 82, "FAT32   ", 8), TRUE, "FAT");
    expect_plain(mbr_disk(0x83), TRUE, "ext4 in a partition");
    guint8 *ntfs = g_malloc0(SIZE);
    ntfs[446] = 0x42; /* its boot sector has no table, but code there */
    ntfs[510] = 0x55;
    ntfs[511] = 0xaa;
    expect_plain(with(ntfs, 3, "NTFS    ", 8), TRUE, "NTFS");
}

static void what_is_assembled_is_not(void **state)
{
    gsize part = (gsize)PART * 512, end = part + 0x2000 * 512;
    static const char md[] = "\xfc\x4e\x2b\xa9";
    expect_plain(with(mbr_disk(0x83), part + 512, "LABELONE", 8), FALSE, "LVM beside ext4");
    expect_plain(with(mbr_disk(0x83), part, md, 4), FALSE, "md 1.1");
    expect_plain(with(mbr_disk(0x83), part + 4096, md, 4), FALSE, "md 1.2");
    expect_plain(with(mbr_disk(0x83), end - 8192 - 4096, md, 4), FALSE, "md 1.0");
    expect_plain(with(mbr_disk(0x83), end - 65536, md, 4), FALSE, "md 0.90");
    expect_plain(with(ext_at(g_malloc0(SIZE), 0), SIZE - 65536, md, 4), FALSE, "md 0.90 of a disk");
    expect_plain(with(g_malloc0(SIZE), 0, "LUKS\xba\xbe", 6), FALSE, "LUKS");
    expect_plain(with(g_malloc0(SIZE), 0x10040, "_BHRfS_M", 8), FALSE, "btrfs");
    expect_plain(g_malloc0(SIZE), FALSE, "an empty disk");
    expect_plain(mbr_disk(0x0f), FALSE, "an extended partition");
    expect_plain(mbr_disk(0x42), FALSE, "a dynamic disk of Windows");
    expect_plain(with(g_malloc0(SIZE), 3, "-FVE-FS-", 8), FALSE, "BitLocker");
    expect_plain(mbr_disk(0xee), FALSE, "a protective MBR without its GPT");
    guint8 *outside = mbr_disk(0x83);
    outside[446 + 11] = 0x10;
    expect_plain(outside, FALSE, "a partition outside the disk");
}

/* With a real table, and through an overlay on a compressed base. */
static void of_a_file(void **state)
{
    TestDir *dir = *state;
    g_autofree char *raw = in_dir(dir, "disk.raw"), *base = in_dir(dir, "base.qcow2"), *top = in_dir(dir, "g1.qcow2");
    tool("sh", "-c",
         "truncate -s 64M \"$1\" && printf 'label: gpt\\nsize=1MiB, type=21686148-6449-6E6F-744E-656564454649\\n"
         "size=20MiB\\n' | sfdisk -q \"$1\" && mke2fs -q -E offset=2097152 \"$1\" 20M && "
         "qemu-img convert -c -f raw -O qcow2 \"$1\" \"$2\" && "
         "qemu-img create -q -f qcow2 -F qcow2 -b \"$2\" \"$3\"",
         "sh", raw, base, top);
    assert_true(vr_disk_is_plain(raw, VR_FORMAT_RAW));
    assert_true(vr_disk_is_plain(top, VR_FORMAT_QCOW2));
    tool("qemu-io", "-f", "qcow2", "-c", "write -P 0 2097152 64k", top);
    assert_false(vr_disk_is_plain(top, VR_FORMAT_QCOW2));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(host_names),
        cmocka_unit_test(machine_ids_and_timezones),
        cmocka_unit_test(keys),
        cmocka_unit_test(paths),
        cmocka_unit_test(files),
        cmocka_unit_test(directories_and_links),
        cmocka_unit_test(a_request_comes_over_whole),
        cmocka_unit_test(a_copy_is_the_same_for_another_disk),
        cmocka_unit_test(a_damaged_request_is_no_harm),
        cmocka_unit_test(a_request_to_read_comes_over),
        cmocka_unit_test(files_come_over_whole),
        cmocka_unit_test(hostile_files_are_refused),
        cmocka_unit_test(too_many_files_are_refused),
        cmocka_unit_test(damaged_files_are_no_harm),
        cmocka_unit_test(reports),
        cmocka_unit_test(what_is_known_is_plain),
        cmocka_unit_test(what_is_assembled_is_not),
        dir_test(of_a_file),
    };
    return cmocka_run_group_tests_name("personalize", tests, NULL, NULL);
}
