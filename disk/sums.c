/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "disk/sums.h"

#include "base/error.h"
#include "disk/small_file.h"

#include <string.h>

#define PREFIX "sha256:"
#define BSD_PREFIX "SHA256 ("
#define MAX_BYTES (1024 * 1024)

/* Exactly `length` hex digits at text, as lower case. */
static gboolean take_hex(const char *text, gsize length, char digest[VR_DIGEST_HEX_LENGTH + 1])
{
    if (length != VR_DIGEST_HEX_LENGTH)
        return FALSE;
    for (gsize i = 0; i < length; i++) {
        if (!g_ascii_isxdigit(text[i]))
            return FALSE;
        digest[i] = g_ascii_tolower(text[i]);
    }
    digest[length] = '\0';
    return TRUE;
}

gboolean vr_digest_parse(const char *text, char digest[VR_DIGEST_HEX_LENGTH + 1], GError **error)
{
    if (g_str_has_prefix(text, PREFIX) && take_hex(text + strlen(PREFIX), strlen(text) - strlen(PREFIX), digest))
        return TRUE;
    g_autofree char *shown = vr_printable(text, -1);
    g_set_error(error, VR_ERROR, VR_ERROR_USAGE,
                "\"%.160s\" is not a digest: it needs \"" PREFIX "\" and %d hex digits", shown, VR_DIGEST_HEX_LENGTH);
    return FALSE;
}

/* "HEX  name" and "HEX *name". */
static const char *coreutils_entry(char *line, char digest[VR_DIGEST_HEX_LENGTH + 1])
{
    gsize hex = strspn(line, "0123456789abcdefABCDEF");
    if (line[hex] != ' ' || (line[hex + 1] != ' ' && line[hex + 1] != '*') || !take_hex(line, hex, digest))
        return NULL;
    return line + hex + 2;
}

/* "SHA256 (name) = HEX"; the name may hold a bracket itself. */
static const char *bsd_entry(char *line, char digest[VR_DIGEST_HEX_LENGTH + 1])
{
    char *end = g_str_has_prefix(line, BSD_PREFIX) ? g_strrstr(line, ") = ") : NULL;
    if (!end || !take_hex(end + 4, strlen(end + 4), digest))
        return NULL;
    *end = '\0';
    return line + strlen(BSD_PREFIX);
}

static gboolean is_of(const char *entry, const char *name)
{
    g_autofree char *base = g_path_get_basename(entry);
    return *entry && strcmp(base, name) == 0;
}

gboolean vr_sums_find(const char *text, const char *file, const char *name, char digest[VR_DIGEST_HEX_LENGTH + 1],
                      GError **error)
{
    g_auto(GStrv) lines = g_strsplit(text, "\n", -1);
    gboolean found = FALSE;
    if (strstr(text, "-----BEGIN PGP SIGNED MESSAGE-----")) {
        g_set_error(error, VR_ERROR, VR_ERROR_REFUSED,
                    "%s is PGP-clearsigned, which is not supported: verify it with 'gpg --verify' and give its line in "
                    "a file of its own, or --digest sha256:HEX",
                    file);
        return FALSE;
    }
    for (char **line = lines; *line; line++) {
        char one[VR_DIGEST_HEX_LENGTH + 1];
        g_strchomp(*line);
        const char *entry = coreutils_entry(*line, one);
        entry = entry ? entry : bsd_entry(*line, one);
        if (!entry || !is_of(entry, name))
            continue;
        if (found && strcmp(one, digest) != 0) {
            g_set_error(error, VR_ERROR, VR_ERROR_REFUSED, "%s has two different digests for %s", file, name);
            return FALSE;
        }
        memcpy(digest, one, sizeof one);
        found = TRUE;
    }
    if (!found)
        g_set_error(error, VR_ERROR, VR_ERROR_REFUSED, "%s has no SHA-256 digest for %s", file, name);
    return found;
}

gboolean vr_sums_read(const char *file, const char *name, char digest[VR_DIGEST_HEX_LENGTH + 1], GError **error)
{
    g_autofree char *text = vr_small_file_open(file, MAX_BYTES, error);
    return text && vr_sums_find(text, file, name, digest, error);
}
