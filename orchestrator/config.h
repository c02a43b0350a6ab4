/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * The configuration of a host: /etc/virt-reimage/virt-reimage.conf, a key file as desktop entries and systemd units are ([group], key=value, # for comments).
 * It says what the daemon serves and where notices and metrics go; what a set does stands in its model. A file that is not there says nothing, and every
 * key has a default. It names programs that root runs, so it must belong to root or to the user, and nobody else may write to it.
 */
#pragma once

#include <glib.h>

#define VR_CONFIG_DEFAULT_PATH "/etc/virt-reimage/virt-reimage.conf"

typedef struct {
    char *path; /* that was read; NULL: there was none */
    /* [host] */
    char *uri;  /* NULL: as virsh chooses */
    char *root; /* NULL: by the URI (vr_store_default_root()) */
    /* [daemon] */
    guint max_commands;
    /* [drop] */
    char *drop_directory; /* NULL: none */
    /* [notices] */
    gboolean journal;
    char *hooks;
    char *webhook;                               /* NULL: none */
    char *webhook_secret_file, *webhook_ca_file; /* NULL: none; the authorities of the system */
    /* [metrics] */
    char *textfile; /* NULL: none */
    gint64 interval_ms;
} VrConfig;
void vr_config_free(VrConfig *config);
G_DEFINE_AUTOPTR_CLEANUP_FUNC(VrConfig, vr_config_free)

/* path NULL: $VIRT_REIMAGE_CONF, else the default one, which may be absent; one that was named must be there. VR_ERROR_INVALID names the file, the
 * group and the key; VR_ERROR_REFUSED: somebody else may write to it. */
VrConfig *vr_config_load(const char *path, GError **error);

/* One line a key, for its man page. */
typedef struct {
    const char *group, *key, *value, *initial,
        *text; /* value: "URL", ...; initial: as it would be written, "" for none */
} VrConfigKey;

/* The keys in the order of their groups; NULL: there are no more. */
const VrConfigKey *vr_config_key(guint i);
