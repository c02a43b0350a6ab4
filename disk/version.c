/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "disk/version.h"

#include "base/error.h"

#include <string.h>

#define NAME_MAX_BYTES 128
#define PARTS 4

gboolean vr_name_check(const char *name, const char *what, GError **error)
{
    static const char allowed[] = G_CSET_A_2_Z G_CSET_a_2_z G_CSET_DIGITS "._+-";
    gsize length = name ? strlen(name) : 0;
    if (length >= 1 && length <= NAME_MAX_BYTES && g_ascii_isalnum(name[0]) && strspn(name, allowed) == length)
        return TRUE;
    g_autofree char *shown = vr_printable(name, (gssize)MIN(length, NAME_MAX_BYTES));
    g_set_error(error, VR_ERROR, VR_ERROR_USAGE,
                "\"%s\" cannot be the name of %s %s: use 1 to %d letters, digits and \"._+-\", a letter or digit first",
                shown, strchr("aeiou", what[0]) ? "an" : "a", what, NAME_MAX_BYTES);
    return FALSE;
}

/* The numbers of a version into parts (missing ones are 0); FALSE when it is none. */
static gboolean parse(const char *version, guint32 parts[PARTS])
{
    memset(parts, 0, PARTS * sizeof *parts);
    for (int i = 0; i < PARTS; i++) {
        guint64 value = 0;
        const char *start = version;
        for (; g_ascii_isdigit(*version); version++)
            if ((value = value * 10 + (guint64)(*version - '0')) > G_MAXINT32)
                return FALSE;
        gsize digits = (gsize)(version - start);
        if (digits == 0 || (digits > 1 && *start == '0'))
            return FALSE;
        parts[i] = (guint32)value;
        if (*version == '\0')
            return TRUE;
        if (*version++ != '.')
            return FALSE;
    }
    return FALSE;
}

/* What the person may have meant: other separators, a leading v, leading zeros. NULL when that is no version either. */
static char *near_spelling(const char *version)
{
    if (*version == 'v' || *version == 'V')
        version++;
    g_autoptr(GString) near = g_string_new(NULL);
    gboolean number_begins = TRUE;
    for (; *version; version++) {
        gboolean separator = strchr(".-_+:", *version) != NULL;
        if (number_begins && *version == '0' && g_ascii_isdigit(version[1]))
            continue;
        g_string_append_c(near, separator ? '.' : *version);
        number_begins = separator;
    }
    guint32 parts[PARTS];
    return parse(near->str, parts) ? g_strdup(near->str) : NULL;
}

gboolean vr_version_check(const char *version, GError **error)
{
    guint32 parts[PARTS];
    if (version && parse(version, parts))
        return TRUE;
    gsize length = version ? strlen(version) : 0;
    g_autofree char *shown = vr_printable(version, (gssize)MIN(length, NAME_MAX_BYTES));
    g_autofree char *near = length <= NAME_MAX_BYTES && version ? near_spelling(version) : NULL;
    g_set_error(error, VR_ERROR, VR_ERROR_USAGE,
                "\"%s\" is not a version: it needs 1 to %d dot-separated integers below 2147483648", shown, PARTS);
    if (near)
        vr_error_next(error, "\"%s\" works", near);
    return FALSE;
}

int vr_version_compare(const char *a, const char *b)
{
    guint32 left[PARTS], right[PARTS];
    (void)parse(a, left);
    (void)parse(b, right);
    for (int i = 0; i < PARTS; i++)
        if (left[i] != right[i])
            return left[i] < right[i] ? -1 : 1;
    return 0;
}
