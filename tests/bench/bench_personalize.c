/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Personalises qcow2 disks in one call and prints how long that took, in ms: vr-bench-personalize HELPER WORK_DIR kvm|tcg DISK... */
#include "base/clock.h"
#include "disk/personalize.h"

#include <stdio.h>
#include <string.h>

#define MAX_DISKS 32

static VrPersonal *personal_of(const char *disk, int i)
{
    static const char script[] = "#!/bin/sh\ntrue\n";
    VrPersonal *personal = vr_personal_new(disk, VR_FORMAT_QCOW2);
    personal->hostname = g_strdup_printf("web-%d", i);
    personal->machine_id = g_strdup("0123456789abcdef0123456789abcdef");
    personal->timezone = g_strdup("Europe/Berlin");
    personal->first_boot = g_bytes_new_static(script, strlen(script));
    vr_personal_add_file(personal->host_keys, "ssh_host_ed25519_key", 0, NULL, "key\n", 4);
    vr_personal_add_key(personal, "debian", "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIGx2 admin@site");
    vr_personal_add_file(personal->files, "/etc/shop.conf", 0640, "debian", "x = 1\n", 6);
    return personal;
}

int main(int argc, char **argv)
{
    g_autoptr(GPtrArray) disks = g_ptr_array_new_with_free_func((GDestroyNotify)vr_personal_free);
    g_autoptr(GError) error = NULL;
    GError *errors[MAX_DISKS] = {NULL};

    if (argc < 5 || argc > 4 + MAX_DISKS) {
        fprintf(stderr, "usage: vr-bench-personalize HELPER WORK_DIR kvm|tcg DISK...\n");
        return 2;
    }
    const VrPersonalizeOptions options = {.helper = argv[1], .work_dir = argv[2], .kvm = strcmp(argv[3], "kvm") == 0};
    for (int i = 4; i < argc; i++)
        g_ptr_array_add(disks, personal_of(argv[i], i - 4));
    gint64 begin = vr_clock_now_ms();
    gboolean ok = vr_personalize((const VrPersonal *const *)disks->pdata, disks->len, &options, errors, &error);
    gint64 end = vr_clock_now_ms();
    for (guint i = 0; i < disks->len; i++)
        if (errors[i])
            fprintf(stderr, "%s\n", errors[i]->message);
    if (error)
        fprintf(stderr, "%s\n", error->message);
    printf("%d\n", (int)(end - begin));
    return ok ? 0 : 1;
}
