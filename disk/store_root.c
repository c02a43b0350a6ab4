/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Apart from the store, so that who only names it is linked with nothing of it. */
#include "disk/store.h"

#include <string.h>
#include <unistd.h>

char *vr_store_default_root(const char *uri)
{
    gboolean session = geteuid() != 0; /* libvirt's own choice where no URI is given */
    if (uri) {
        g_autofree char *path = g_strndup(uri, strcspn(uri, "?"));
        session = g_str_has_suffix(path, "/session");
    }
    return session ? g_build_filename(g_get_user_data_dir(), "virt-reimage", NULL) : g_strdup("/var/lib/virt-reimage");
}
