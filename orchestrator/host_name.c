/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "orchestrator/host_name.h"

#include <glib.h>
#include <string.h>

#define LABEL_MAX 63
#define NAME_MAX_LENGTH 64

static gboolean is_label(const char *label, gsize length)
{
    gsize good = strspn(label, "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789-");

    return length > 0 && length <= LABEL_MAX && good >= length && label[0] != '-' && label[length - 1] != '-';
}

const char *vr_host_name_check(const char *name)
{
    if (strlen(name) > NAME_MAX_LENGTH)
        return "is longer than the 64 characters of a host name";
    for (const char *label = name;; label++) {
        gsize length = strcspn(label, ".");
        if (!is_label(label, length))
            return "is no host name: letters, digits and '-' in labels of 1 to 63, with dots between them";
        label += length;
        if (*label == '\0')
            return NULL;
    }
}
