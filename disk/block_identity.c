/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Files of sysfs: Documentation/ABI/stable/sysfs-block and testing/sysfs-block-dm, sysfs-block-loop of the kernel. */
#include "disk/block_identity.h"

#include "base/durable.h"
#include "base/error.h"
#include "base/fd.h"

#include <fcntl.h>
#include <string.h>
#include <sys/sysmacros.h>

#define MAX_BYTES 4096

/* NULL: it is not there, or has nothing. */
static char *attribute(const char *dir, const char *name)
{
    g_autofree char *path = g_build_filename(dir, name, NULL);
    vr_autofd fd = open(path, O_RDONLY | O_CLOEXEC);
    char bytes[MAX_BYTES];
    gsize got = 0;

    if (fd < 0 || !vr_pread_all(fd, bytes, sizeof bytes - 1, 0, &got, NULL))
        return NULL;
    bytes[got] = '\0';
    g_strstrip(bytes);
    return *bytes ? vr_printable(bytes, -1) : NULL;
}

static char *of_loop(const char *dir)
{
    g_autofree char *file = attribute(dir, "loop/backing_file");
    g_autofree char *offset = attribute(dir, "loop/offset");

    return file ? g_strdup_printf("loop %s at %s", file, offset ? offset : "0") : NULL;
}

/* What is made over others comes first: the uuid of a multipath or LVM device says more than what lies below it. */
static char *of_disk(const char *dir)
{
    static const char *const names[] = {"dm/uuid", "md/uuid", "wwid", "device/wwid", "serial", "device/serial"};

    for (gsize i = 0; i < G_N_ELEMENTS(names); i++) {
        g_autofree char *value = attribute(dir, names[i]);
        if (value)
            return g_strdup_printf("%s %s", names[i], value);
    }
    return of_loop(dir);
}

char *vr_block_identity(const char *sysfs, dev_t device)
{
    g_autofree char *dir = g_strdup_printf("%s/dev/block/%u:%u", sysfs, major(device), minor(device));
    g_autofree char *parent = g_strconcat(dir, "/..", NULL);
    g_autofree char *partition = attribute(dir, "partition");
    g_autofree char *disk = of_disk(partition ? parent : dir);

    return disk && partition ? g_strdup_printf("%s partition %s", disk, partition) : g_steal_pointer(&disk);
}
