/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* In place of virt-reimage-personalize, for what cannot be had at will: an appliance that dies or hangs at a certain disk. What it does with a disk its host
 * name says. It notes each launch beside the first disk, as one line with the names of the disks. */
#include "disk/personalize_private.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
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

static gboolean act(const char *name, guint i)
{
    if (strcmp(name, "early") == 0)
        return FALSE;
    say("begin", i);
    if (strcmp(name, "dies") == 0)
        return FALSE;
    while (strcmp(name, "hangs") == 0)
        (void)pause();
    say(strcmp(name, "fails") == 0 ? "fail" : "done", i);
    return TRUE;
}

int main(int argc, char **argv)
{
    static char bytes[1 << 20];

    fd = argc == 3 ? atoi(argv[1]) : -1;
    if (pread(fd, bytes, sizeof bytes - 1, 0) <= 0)
        return 2;
    at = atoi(argv[2]);
    g_autoptr(VrPersonalRequest) request = vr_personal_request_read(bytes, strlen(bytes), NULL);
    if (!request)
        return 3;
    note(request);
    for (guint i = 0; i < request->disks->len; i++)
        if (!act(name_of(request, i), i))
            return 1;
    return pwrite(fd, "flushed\n", 8, at) == 8 ? 0 : 1;
}
