/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "orchestrator/expiry.h"

#include <jansson.h>
#include <math.h>
#include <string.h>

#define LAST_SECOND G_GINT64_CONSTANT(253402300799) /* of the year 9999 */

/* --- times ------------------------------------------------------------------------------------------- */

static gboolean of_seconds(double seconds, gint64 *until_us)
{
    if (!isfinite(seconds) || seconds < 0)
        return FALSE;
    *until_us = (gint64)MIN(seconds, (double)LAST_SECOND) * G_USEC_PER_SEC;
    return TRUE;
}

gboolean vr_expiry_parse_time(const char *text, gint64 *until_us)
{
    static const char form[] = "^[0-9]{4}-[0-9]{2}-[0-9]{2}T[0-9]{2}:[0-9]{2}:[0-9]{2}(Z|[+-][0-9]{2}:[0-9]{2})$";
    g_autoptr(GDateTime) time = NULL;

    if (g_regex_match_simple(form, text, G_REGEX_DOLLAR_ENDONLY, 0))
        time = g_date_time_new_from_iso8601(text, NULL);
    return time != NULL && of_seconds((double)g_date_time_to_unix(time), until_us);
}

gboolean vr_expiry_parse_sas_time(const char *text, gint64 *until_us)
{
    gsize length = strlen(text);
    g_autofree char *whole = NULL;

    if (length > 0 && length <= 15 && strspn(text, "0123456789") == length)
        return of_seconds(g_ascii_strtod(text, NULL), until_us);
    if (length == strlen("2026-11-22"))
        whole = g_strconcat(text, "T00:00:00Z", NULL);
    else if (length == strlen("2026-11-22T10:00Z") && text[length - 1] == 'Z')
        whole = g_strdup_printf("%.*s:00Z", (int)length - 1, text);
    return vr_expiry_parse_time(whole != NULL ? whole : text, until_us);
}

/* --- signatures that are parameters ------------------------------------------------------------------ */

static gboolean is_se(const char *parameter)
{
    return g_str_has_prefix(parameter, "se=");
}

gboolean vr_expiry_of_query(const char *query, gint64 *until_us)
{
    g_auto(GStrv) parameters = g_strsplit(query, "&", -1);

    for (char **parameter = parameters; *parameter != NULL; parameter++) {
        g_autofree char *value = is_se(*parameter) ? g_uri_unescape_string(*parameter + 3, NULL) : NULL;
        if (value != NULL)
            return vr_expiry_parse_sas_time(value, until_us);
    }
    return FALSE;
}

/* --- JSON Web Tokens --------------------------------------------------------------------------------- */

/* base64url without padding. Free with g_free. */
static char *decode(const char *part, gsize length, gsize *got)
{
    g_autofree char *text = g_strndup(part, length);

    if (strspn(text, G_CSET_A_2_Z G_CSET_a_2_z G_CSET_DIGITS "-_") != length || length % 4 == 1)
        return NULL;
    g_strdelimit(text, "-", '+');
    g_strdelimit(text, "_", '/');
    g_autofree char *padded = g_strconcat(text, &"==="[length % 4 == 0 ? 3 : length % 4 - 1], NULL);
    return (char *)g_base64_decode(padded, got);
}

static gboolean of_jwt(const char *word, gint64 *until_us)
{
    g_auto(GStrv) parts = g_strsplit(word, ".", 4);
    gsize length = 0;

    if (g_strv_length(parts) != 3 || parts[1][0] == '\0')
        return FALSE;
    g_autofree char *claims = decode(parts[1], strlen(parts[1]), &length);
    json_auto_t *root = claims != NULL ? json_loadb(claims, length, JSON_REJECT_DUPLICATES, NULL) : NULL;
    const json_t *until = json_object_get(root, "exp");
    return json_is_number(until) && of_seconds(json_number_value(until), until_us);
}

static gboolean of_word(const char *word, gint64 *until_us)
{
    const char *query = strchr(word, '?');

    return of_jwt(word, until_us) || vr_expiry_of_query(query != NULL ? query + 1 : word, until_us);
}

gboolean vr_expiry_of_token(const char *text, gint64 *until_us)
{
    g_auto(GStrv) words = g_strsplit_set(text, " \t\r\n\"',", -1);
    gint64 first_us = G_MAXINT64, one_us;

    for (char **word = words; *word != NULL; word++) {
        if (**word != '\0' && of_word(*word, &one_us))
            first_us = MIN(first_us, one_us);
    }
    if (first_us < G_MAXINT64)
        *until_us = first_us;
    return first_us < G_MAXINT64;
}
