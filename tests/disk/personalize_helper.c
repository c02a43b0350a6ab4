/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* In place of virt-reimage-personalize, for what cannot be had at will: an appliance that dies or hangs at a certain disk, or changes its header. What it does
 * with a disk its host name says. It notes each launch beside the first disk, as one line with the names of the disks. */
#include "disk/personalize_private.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

static int fd;
static off_t at;

static void say(const char *word, guint i)
{
    g_autofree char *line = g_strdup_printf("%s %u%s\n", word, i, strcmp(word, "fail") == 0 ? " 2 /etc is a link" : "");
    at += pwrite(fd, line, strlen(line), at);
}

static const char *name_of(const VrPersonalRequest *request, guint i)
{
    return ((const VrPersonal *)request->disks->pdata[i])->hostname;
}

static void note(const VrPersonalRequest *request)
{
    const VrPersonal *first = request->disks->pdata[0];
    g_autofree char *dir = g_path_get_dirname(first->disk);
    g_autofree char *path = g_build_filename(dir, "launches", NULL);
    FILE *file = fopen(path, "a");
    if (!file)
        return;
    for (guint i = 0; i < request->disks->len; i++)
        fprintf(file, "%s%c", name_of(request, i), i + 1 < request->disks->len ? ' ' : '\n');
    fclose(file);
}

/* What a QEMU that was taken over could do to a qcow2 (docs/interop/qcow2.txt), by one byte of it. */
static const struct {
    const char *name;
    enum { HEADER, EXTENSIONS, BACKING } from;
    off_t at;
    guint8 bits; /* that are turned */
} harms[] = {
    {"rebases", BACKING, 1, 1},    {"reformats", EXTENSIONS, 8, 1}, {"grows", HEADER, 30, 1},
    {"snapshots", HEADER, 63, 1},  {"dirties", HEADER, 79, 1},      {"corrupts", HEADER, 79, 2},
    {"outsources", HEADER, 79, 4}, {"unknown", HEADER, 72, 128},    {"autoclears", HEADER, 95, 1},
    {"outsourced", HEADER, 95, 2},
};

static void harm(const char *name, const char *disk)
{
    FILE *file = fopen(disk, "r+");
    guint8 header[104] = {0};
    gsize got = file ? fread(header, 1, sizeof header, file) : 0;
    for (gsize k = 0; got == sizeof header && k < G_N_ELEMENTS(harms); k++) {
        guint32 from = 0;
        if (strcmp(harms[k].name, name) != 0)
            continue;
        if (harms[k].from != HEADER)
            memcpy(&from, header + (harms[k].from == BACKING ? 12 : 100), sizeof from);
        off_t place = (off_t)GUINT32_FROM_BE(from) + harms[k].at;
        int byte = fseeko(file, place, SEEK_SET) == 0 ? fgetc(file) : EOF;
        if (byte == EOF || fseeko(file, place, SEEK_SET) < 0 || fputc(byte ^ harms[k].bits, file) == EOF)
            abort();
    }
    if (file)
        fclose(file);
}

static gboolean act(const VrPersonal *disk, guint i)
{
    const char *name = disk->hostname;
    if (strcmp(name, "early") == 0)
        return FALSE;
    say("begin", i);
    if (strcmp(name, "dies") == 0)
        return FALSE;
    while (strcmp(name, "hangs") == 0)
        (void)pause();
    harm(name, disk->disk);
    say(strcmp(name, "fails") == 0 ? "fail" : "done", i);
    return TRUE;
}

int main(int argc, char **argv)
{
    struct stat st;

    fd = argc == 3 ? atoi(argv[1]) : -1;
    if (fstat(fd, &st) < 0)
        return 2;
    at = atoi(argv[2]);
    g_autofree char *bytes = g_malloc0((gsize)st.st_size + 1);
    if (pread(fd, bytes, (gsize)st.st_size, 0) != st.st_size)
        return 2;
    g_autoptr(VrPersonalRequest) request = vr_personal_request_read(bytes, strlen(bytes), NULL);
    if (!request)
        return 3;
    note(request);
    for (guint i = 0; i < request->disks->len; i++)
        if (!act(request->disks->pdata[i], i))
            return 1;
    return pwrite(fd, "flushed\n", 8, at) == 8 ? 0 : 1;
}
