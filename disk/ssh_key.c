/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "disk/ssh_key.h"

#include "base/error.h"

#include <string.h>

#define MAX_BYTES 16384

/* The key repeats its type: RFC 4253, 6.6. */
static gboolean is_key_of(const char *type, const char *base64, gsize length)
{
    g_autofree char *text = g_strndup(base64, length);
    gsize bytes = 0;
    g_autofree guchar *key = NULL;

    if (length == 0 || length % 4 != 0 ||
        strspn(text, "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/=") != length)
        return FALSE;
    key = g_base64_decode(text, &bytes);
    return bytes > 4 + strlen(type) && key[0] == 0 && key[1] == 0 && key[2] == 0 && key[3] == strlen(type) &&
           memcmp(key + 4, type, strlen(type)) == 0;
}

const char *vr_ssh_key_check(const char *line)
{
    static const char *const types[] = {"ssh-ed25519",
                                        "ssh-rsa",
                                        "ecdsa-sha2-nistp256",
                                        "ecdsa-sha2-nistp384",
                                        "ecdsa-sha2-nistp521",
                                        "sk-ssh-ed25519@openssh.com",
                                        "sk-ecdsa-sha2-nistp256@openssh.com"};
    g_autofree char *printable = vr_printable(line, -1);
    gsize length = strcspn(line, " ");

    if (strlen(line) > MAX_BYTES || strcmp(line, printable) != 0)
        return "must be one line of at most 16384 bytes, without control characters";
    for (gsize i = 0; i < G_N_ELEMENTS(types); i++) {
        const char *key = line + length + strspn(line + length, " ");
        if (strlen(types[i]) == length && strncmp(line, types[i], length) == 0)
            return is_key_of(types[i], key, strcspn(key, " ")) ? NULL
                                                               : "is no public key: what follows its type is not one";
    }
    return "must begin with the type of a key (ssh-ed25519, ssh-rsa, ecdsa-sha2-nistp256, ...): options before it are "
           "refused";
}
