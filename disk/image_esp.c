/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * The EFI system partition is a FAT file system that somebody else made, so no code of ours reads it: mtools does, in a child
 * that opens nothing but our copy of the partition, with few seconds and little memory. What it answers is compared with the
 * names that firmware looks for, and nothing else is taken from it. A file system that mtools cannot read, or dies of, leaves
 * the loaders unknown; that is no fault of the image.
 */
#include "base/child.h"
#include "base/durable.h"
#include "base/error.h"
#include "base/fd.h"
#include "disk/image_boot_private.h"
#include "disk/little_endian.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#define MAX_ESP_SIZE (G_GUINT64_CONSTANT(8) << 30) /* sparse */
#define PIECE ((gsize)1 << 20)
#define HEADER_BYTES 4096
#define LIST_BYTES (64u << 10)
#define TIMEOUT_MS 10000
#define MAX_MEMORY (G_GUINT64_CONSTANT(256) << 20)
#define MAX_CPU_S 5
#define PE_OFFSET 0x3c

/* PE/COFF specification, machine types; file names: UEFI specification 2.10, table 3.2. */
static const struct {
    const char *path, *arch;
    guint16 machine;
} kinds[VR_IMAGE_MAX_LOADERS] = {
    {"\\EFI\\BOOT\\BOOTX64.EFI", "x86_64", 0x8664},      {"\\EFI\\BOOT\\BOOTIA32.EFI", "i686", 0x014c},
    {"\\EFI\\BOOT\\BOOTAA64.EFI", "aarch64", 0xaa64},    {"\\EFI\\BOOT\\BOOTARM.EFI", "armv7l", 0x01c2},
    {"\\EFI\\BOOT\\BOOTRISCV64.EFI", "riscv64", 0x5064}, {"\\EFI\\BOOT\\BOOTLOONGARCH64.EFI", "loongarch64", 0x6264},
};

const char *vr_image_loader_path(const char *arch)
{
    for (gsize i = 0; i < G_N_ELEMENTS(kinds); i++)
        if (g_strcmp0(arch, kinds[i].arch) == 0)
            return kinds[i].path;
    return NULL;
}

void vr_image_boot_add_loader(VrImageBoot *boot, const char *path, const char *arch)
{
    for (gsize i = 0; i < G_N_ELEMENTS(kinds); i++) {
        gboolean there = FALSE;
        for (guint j = 0; j < boot->n_loaders; j++)
            there |= boot->loaders[j].path == kinds[i].path;
        if (!there && g_ascii_strcasecmp(path, kinds[i].path) == 0)
            boot->loaders[boot->n_loaders++] = (VrImageLoader){kinds[i].path, arch};
    }
}

/* ---- the copy of the partition ---- */

static gboolean is_cancelled(const VrImageEsp *esp, GError **error)
{
    if (!esp->cancelled || !g_atomic_int_get(esp->cancelled))
        return FALSE;
    g_set_error_literal(error, VR_ERROR, VR_ERROR_CANCELLED, "it was cancelled");
    return TRUE;
}

/* Counts the bytes of the partition that the image has, up to a limit. */
static gboolean count_data(const VrImageEsp *esp, VrMap *map, const VrImageBoot *boot, GError **error)
{
    guint64 end = boot->esp_at + boot->esp_size, data = 0;
    VrExtent extent;

    for (guint64 at = boot->esp_at; at < end; at += extent.length) {
        if (is_cancelled(esp, error) || !vr_map_find(map, at, &extent, error))
            return FALSE;
        if (extent.kind == VR_EXTENT_DATA)
            data += MIN(extent.length, end - at);
    }
    if (data <= esp->max_bytes)
        return TRUE;
    g_set_error(error, VR_ERROR, VR_ERROR_NO_SPACE,
                "it has %" G_GUINT64_FORMAT " bytes, and %" G_GUINT64_FORMAT " can be looked at", data, esp->max_bytes);
    return FALSE;
}

static gboolean write_piece(int fd, const guint8 *bytes, gsize length, guint64 at, GError **error)
{
    if (lseek(fd, (off_t)at, SEEK_SET) >= 0)
        return vr_write_all(fd, bytes, length, "the copy of the EFI system partition", error);
    vr_set_error_errno(error, errno, "cannot write the copy of the EFI system partition");
    return FALSE;
}

static gboolean copy_data(const VrImageEsp *esp, VrMap *map, const VrImageBoot *boot, int fd, GError **error)
{
    guint64 end = boot->esp_at + boot->esp_size, length;
    g_autofree guint8 *piece = g_malloc(PIECE);
    VrExtent extent;

    for (guint64 at = boot->esp_at; at < end; at += length) {
        if (is_cancelled(esp, error) || !vr_map_find(map, at, &extent, error))
            return FALSE;
        length = MIN(extent.length, end - at);
        if (extent.kind != VR_EXTENT_DATA)
            continue;
        length = MIN(length, PIECE);
        memset(piece, 0, length);
        if (!vr_image_map_read(map, at, piece, length, error) ||
            !write_piece(fd, piece, length, at - boot->esp_at, error))
            return FALSE;
    }
    return TRUE;
}

/* A descriptor for the child, that may read and not write. */
static int reopen(int fd, GError **error)
{
    g_autofree char *path = g_strdup_printf("/proc/self/fd/%d", fd);
    int again = open(path, O_RDONLY | O_CLOEXEC);
    if (again < 0)
        vr_set_error_errno(error, errno, "cannot open the copy of the EFI system partition");
    return again;
}

static int make_copy(const VrImageEsp *esp, VrMap *map, const VrImageBoot *boot, GError **error)
{
    vr_autofd fd = vr_open_beneath(esp->tmp_fd, "esp", O_RDWR | O_CREAT | O_EXCL, 0400, error);
    if (fd < 0)
        return -1;
    (void)unlinkat(esp->tmp_fd, "esp", 0); /* the directory is thrown away with what is left in it */
    if (fchmod(fd, 0444) < 0 || ftruncate(fd, (off_t)boot->esp_size) < 0) {
        vr_set_error_errno(error, errno, "cannot make a copy of the EFI system partition");
        return -1;
    }
    return copy_data(esp, map, boot, fd, error) ? reopen(fd, error) : -1;
}

static int extract(const VrImageEsp *esp, const VrImageBoot *boot, GError **error)
{
    const VrConvertLink link = {esp->fd, esp->format};
    const VrCopyJob job = {.cancelled = esp->cancelled};
    g_autoptr(VrMap) map = vr_map_new(&link, 1, &job, error);

    if (!map)
        return -1;
    guint64 size = vr_map_size(map);
    if (boot->esp_size == 0 || boot->esp_size > MAX_ESP_SIZE || boot->esp_at > size ||
        boot->esp_size > size - boot->esp_at) {
        g_set_error_literal(error, VR_ERROR, VR_ERROR_INVALID, "it does not lie in the disk, or is too large");
        return -1;
    }
    return count_data(esp, map, boot, error) ? make_copy(esp, map, boot, error) : -1;
}

/* ---- asking mtools ---- */

/* what: NULL, or an argument before the path. */
static gboolean ask(int fd, const char *tool, const char *what, const char *path, gsize max_output, gboolean begin_only,
                    VrChildResult *result, GError **error)
{
    const VrChildLimits limits = {.timeout_ms = TIMEOUT_MS,
                                  .max_output = max_output,
                                  .begin_only = begin_only,
                                  .max_memory = MAX_MEMORY,
                                  .max_cpu_s = MAX_CPU_S,
                                  .nobody = TRUE,
                                  .keep_fd = fd};
    g_autofree char *image = g_strdup_printf("/proc/self/fd/%d", fd);
    const char *argv[] = {tool, "-i", image, path, NULL, NULL};
    if (what) {
        argv[3] = what;
        argv[4] = path;
    }
    return vr_child_run(argv, &limits, result, error);
}

static const char *arch_of(const VrChildResult *header)
{
    gsize length = header->out_length;
    if (length < PE_OFFSET + 4 || memcmp(header->out, "MZ", 2) != 0)
        return NULL;
    gsize at = vr_le32(header->out + PE_OFFSET);
    if (at > length || length - at < 8 || memcmp(header->out + at, "PE\0\0", 4) != 0)
        return NULL;
    guint machine = vr_le32(header->out + at + 4) & 0xffff;
    for (gsize i = 0; i < G_N_ELEMENTS(kinds); i++)
        if (machine == kinds[i].machine)
            return kinds[i].arch;
    return NULL;
}

static gboolean look_at_loader(int fd, const char *listed, VrImageBoot *boot, GError **error)
{
    g_auto(VrChildResult) header = {0};
    g_autofree char *path = g_strdelimit(g_strdup(listed + strlen("::")), "/", '\\');
    guint before = boot->n_loaders;

    vr_image_boot_add_loader(boot, path, NULL);
    if (boot->n_loaders == before)
        return TRUE;
    if (!ask(fd, "mtype", NULL, listed, HEADER_BYTES, TRUE, &header, error))
        return FALSE;
    boot->loaders[before].arch = arch_of(&header);
    return TRUE;
}

static gboolean look_at_list(int fd, const char *list, VrImageBoot *boot, GError **error)
{
    g_auto(GStrv) lines = g_strsplit(list, "\n", -1);
    for (char **line = lines; *line; line++)
        if (g_str_has_prefix(*line, "::/") && !look_at_loader(fd, *line, boot, error))
            return FALSE;
    return TRUE;
}

/* mdir ends alike for a directory that is not there and for no file system at all, and well where a chain of clusters is a loop:
 * its words tell. */
static gboolean find(int fd, VrImageBoot *boot, GError **error)
{
    g_auto(VrChildResult) list = {0};
    if (!ask(fd, "mdir", "-b", "::/EFI/BOOT", LIST_BYTES, FALSE, &list, error))
        return FALSE;
    if (list.exit_status == 0 && list.err_length == 0)
        return look_at_list(fd, list.out, boot, error);
    g_autofree char *said = vr_printable(g_strchomp(list.err), -1);
    if (list.exit_status != 0 && g_str_has_suffix(said, "\" not found"))
        return TRUE;
    g_set_error(error, VR_ERROR, VR_ERROR_INVALID, "mdir cannot read it: %s", said);
    return FALSE;
}

/* ---- all of it ---- */

static void learn_arch(VrImageBoot *boot)
{
    const char *arch = boot->n_loaders ? boot->loaders[0].arch : NULL;
    for (guint i = 0; i < boot->n_loaders; i++)
        if (g_strcmp0(boot->loaders[i].arch, arch) != 0)
            return;
    if (!boot->arch)
        boot->arch = vr_image_arch(arch);
}

gboolean vr_image_boot_loaders(const VrImageEsp *esp, VrImageBoot *boot, GError **error)
{
    if (!boot->uefi)
        return TRUE;
    vr_autofd fd = extract(esp, boot, error);
    boot->loaders_known = fd >= 0 && find(fd, boot, error);
    if (boot->loaders_known) {
        learn_arch(boot);
        return TRUE;
    }
    boot->n_loaders = 0;
    g_prefix_error(error, "cannot look into the EFI system partition: ");
    return FALSE;
}
