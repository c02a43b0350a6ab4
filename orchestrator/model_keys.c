/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "orchestrator/model_keys.h"

#include "base/clock.h"
#include "base/error.h"
#include "disk/version.h"

#include <string.h>

#define SHOWN_MAX 60 /* characters of a value that a message repeats */
#define NAME_MAX_HINT 64

/* A value as a message may repeat it: short and without control characters. Free with g_free. */
static char *shown(const char *text)
{
    g_autofree char *cut = g_utf8_substring(text, 0, MIN(SHOWN_MAX, g_utf8_strlen(text, -1)));
    GString *result = g_string_new(NULL);

    for (const char *at = cut; *at != '\0'; at = g_utf8_next_char(at)) {
        gunichar c = g_utf8_get_char(at);

        g_string_append_unichar(result, g_unichar_iscntrl(c) ? '?' : c);
    }
    if (strlen(cut) < strlen(text))
        g_string_append(result, "...");
    return g_string_free(result, FALSE);
}

gboolean vr_model_fail(const VrModelParser *parser, guint line, GError **error, const char *format, ...)
{
    g_autofree char *text = NULL;
    va_list args;

    va_start(args, format);
    text = g_strdup_vprintf(format, args);
    va_end(args);
    g_set_error(error, VR_ERROR, VR_ERROR_USAGE, "%s:%u: %s%s%s", parser->file_name, line, parser->path->str,
                parser->path->len > 0 ? ": " : "", text);
    return FALSE;
}

guint vr_model_line(const VrModelParser *parser, const char *path)
{
    return GPOINTER_TO_UINT(g_hash_table_lookup(parser->lines, path));
}

gboolean vr_model_fail_at(VrModelParser *parser, const char *path, const char *text, GError **error)
{
    guint line = vr_model_line(parser, path);
    gboolean result;

    g_string_assign(parser->path, path);
    result = vr_model_fail(parser, line != 0 ? line : 1, error, "%s", text);
    g_string_truncate(parser->path, 0);
    return result;
}

const char *vr_model_absolute_path(const char *text)
{
    if (text[0] != '/')
        return "must be an absolute path";
    for (const char *at = text; *at != '\0'; at = g_utf8_next_char(at)) {
        if (g_unichar_iscntrl(g_utf8_get_char(at)))
            return "must not have control characters";
    }
    return NULL;
}

gboolean vr_model_check_program(VrModelParser *parser, const char *path, char **argv, GError **error)
{
    if (argv == NULL)
        return TRUE;
    if (argv[0] == NULL)
        return vr_model_fail_at(parser, path, "must be a list of at least one text", error);
    if (vr_model_absolute_path(argv[0]) != NULL)
        return vr_model_fail_at(parser, path, "the first text must be the absolute path of a program", error);
    return TRUE;
}

/* Levenshtein's distance without regard to case, for short names only. */
static guint distance(const char *a, const char *b)
{
    guint row[NAME_MAX_HINT + 1];
    gsize columns = strlen(b);

    for (guint j = 0; j <= columns; j++)
        row[j] = j;
    for (guint i = 1; a[i - 1] != '\0'; i++) {
        guint diagonal = row[0];

        row[0] = i;
        for (guint j = 1; j <= columns; j++) {
            guint cost = g_ascii_tolower(a[i - 1]) == g_ascii_tolower(b[j - 1]) ? 0 : 1;
            guint best = MIN(MIN(row[j], row[j - 1]) + 1, diagonal + cost);

            diagonal = row[j];
            row[j] = best;
        }
    }
    return row[columns];
}

static const char *nearest(const VrModelKey *keys, const char *name)
{
    const char *best = NULL;
    guint least = G_MAXUINT;

    if (strlen(name) > NAME_MAX_HINT)
        return NULL;
    for (; keys->name != NULL; keys++) {
        guint found = distance(name, keys->name);

        if (found < least && 2 * found <= MAX(strlen(keys->name), strlen(name))) {
            least = found;
            best = keys->name;
        }
    }
    return best;
}

static gboolean unknown_key(VrModelParser *parser, const VrYamlNode *key, const VrModelKey *keys, GError **error)
{
    const char *hint = nearest(keys, key->text);
    g_autofree char *name = shown(key->text);
    gsize length = parser->path->len;
    gboolean result;

    g_string_append_printf(parser->path, "%s%s", length > 0 ? "." : "", name);
    if (hint != NULL)
        result = vr_model_fail(parser, key->line, error, "unknown key; did you mean %s?", hint);
    else
        result = vr_model_fail(parser, key->line, error, "unknown key");
    g_string_truncate(parser->path, length);
    return result;
}

static gboolean read_key(VrModelParser *parser, const VrYamlNode *name, const VrYamlNode *value, const VrModelKey *key,
                         void *base, GError **error)
{
    void *target = key->offset == VR_NOWHERE ? NULL : (char *)base + key->offset;
    gsize length = parser->path->len;
    const char *meant = key->same_as != NULL ? key->same_as : key->name;
    gboolean result;

    g_string_append_printf(parser->path, "%s%s", length > 0 ? "." : "", meant);
    if (vr_model_line(parser, parser->path->str) != 0) {
        result = vr_model_fail(parser, name->line, error, "%s is a second spelling of the key in line %u", name->text,
                               vr_model_line(parser, parser->path->str));
    } else {
        g_hash_table_insert(parser->lines, g_strdup(parser->path->str), GUINT_TO_POINTER(name->line));
        result = key->parse(parser, value, key, target, error);
    }
    g_string_truncate(parser->path, length);
    return result;
}

gboolean vr_model_keys(VrModelParser *parser, const VrYamlNode *map, const VrModelKey *keys, void *base, GError **error)
{
    if (map->kind != VR_YAML_MAP)
        return vr_model_fail(parser, map->line, error, "must be a mapping (key: value)");
    for (guint i = 0; i < map->keys->len; i++) {
        const VrYamlNode *name = map->keys->pdata[i];
        const VrModelKey *key = keys;

        while (key->name != NULL && g_ascii_strcasecmp(key->name, name->text) != 0)
            key++;
        if (key->name == NULL)
            return unknown_key(parser, name, keys, error);
        if (!read_key(parser, name, map->values->pdata[i], key, base, error))
            return FALSE;
    }
    return TRUE;
}

gboolean vr_model_section(VrModelParser *parser, const VrYamlNode *value, const VrModelKey *key, void *target,
                          GError **error)
{
    return vr_model_keys(parser, value, key->data, target, error);
}

static gboolean is_scalar(VrModelParser *parser, const VrYamlNode *value, const char *what, GError **error)
{
    if (value->kind == VR_YAML_SCALAR)
        return TRUE;
    return vr_model_fail(parser, value->line, error, "must be %s, not a %s", what,
                         value->kind == VR_YAML_LIST ? "list" : "mapping");
}

static gboolean is_null(const VrYamlNode *value)
{
    return value->plain &&
           (value->text[0] == '\0' || g_str_equal(value->text, "~") || g_ascii_strcasecmp(value->text, "null") == 0);
}

gboolean vr_model_boolean(VrModelParser *parser, const VrYamlNode *value, const VrModelKey *key, void *target,
                          GError **error)
{
    g_autofree char *text = NULL;

    if (!is_scalar(parser, value, "true or false", error))
        return FALSE;
    if (value->plain && g_ascii_strcasecmp(value->text, "true") == 0)
        *(gboolean *)target = TRUE;
    else if (value->plain && g_ascii_strcasecmp(value->text, "false") == 0)
        *(gboolean *)target = FALSE;
    else {
        text = shown(value->text);
        return vr_model_fail(parser, value->line, error, "%s%s%s is neither true nor false", value->plain ? "" : "\"",
                             text, value->plain ? "" : "\"");
    }
    return TRUE;
}

gboolean vr_model_boolean_not(VrModelParser *parser, const VrYamlNode *value, const VrModelKey *key, void *target,
                              GError **error)
{
    gboolean opposite = FALSE;

    if (!vr_model_boolean(parser, value, key, &opposite, error))
        return FALSE;
    *(gboolean *)target = !opposite;
    return TRUE;
}

gboolean vr_model_only(VrModelParser *parser, const VrYamlNode *value, const VrModelKey *key, void *target,
                       GError **error)
{
    gboolean found = FALSE;

    if (!vr_model_boolean(parser, value, key, &found, error))
        return FALSE;
    if (found == (gboolean)key->min)
        return TRUE;
    return vr_model_fail(parser, value->line, error, "%s is not supported yet", found ? "true" : "false");
}

/* Plain decimal digits with an optional minus and no leading zeros: what YAML, JSON and a reader agree on. */
static gboolean is_whole_number(const VrYamlNode *value)
{
    const char *digits = value->text[0] == '-' ? value->text + 1 : value->text;

    if (!value->plain || digits[0] == '\0' || (digits[0] == '0' && digits[1] != '\0'))
        return FALSE;
    return strspn(digits, "0123456789") == strlen(digits);
}

static gboolean whole_number(VrModelParser *parser, const VrYamlNode *value, const VrModelKey *key, gint64 *number,
                             GError **error)
{
    g_autofree char *text = NULL;

    if (!is_scalar(parser, value, "a whole number", error))
        return FALSE;
    text = shown(value->text);
    if (!is_whole_number(value))
        return vr_model_fail(parser, value->line, error,
                             "\"%s\" is not a whole number (%" G_GINT64_FORMAT " to %" G_GINT64_FORMAT ")", text,
                             key->min, key->max);
    *number = g_ascii_strtoll(value->text, NULL, 10); /* too large a number is the largest, and out of range */
    if (*number < key->min || *number > key->max)
        return vr_model_fail(parser, value->line, error,
                             "%s is out of range (%" G_GINT64_FORMAT " to %" G_GINT64_FORMAT ")", text, key->min,
                             key->max);
    return TRUE;
}

gboolean vr_model_number(VrModelParser *parser, const VrYamlNode *value, const VrModelKey *key, void *target,
                         GError **error)
{
    gint64 number = 0;

    if (!whole_number(parser, value, key, &number, error))
        return FALSE;
    if (target != NULL)
        *(guint *)target = (guint)number;
    return TRUE;
}

gboolean vr_model_mode(VrModelParser *parser, const VrYamlNode *value, const VrModelKey *key, void *target,
                       GError **error)
{
    gsize digits = value->kind == VR_YAML_SCALAR ? strspn(value->text, "01234567") : 0;

    if (digits < 3 || digits > 4 || value->text[digits] != '\0')
        return vr_model_fail(parser, value->line, error, "must be three or four octal digits, such as 0600");
    *(guint *)target = (guint)g_ascii_strtoull(value->text, NULL, 8);
    return TRUE;
}

gboolean vr_model_seconds(VrModelParser *parser, const VrYamlNode *value, const VrModelKey *key, void *target,
                          GError **error)
{
    gint64 number = 0;

    if (!whole_number(parser, value, key, &number, error))
        return FALSE;
    *(gint64 *)target = number * 1000;
    return TRUE;
}

gboolean vr_model_duration(VrModelParser *parser, const VrYamlNode *value, const VrModelKey *key, void *target,
                           GError **error)
{
    g_autoptr(GError) why = NULL;
    g_autofree char *text = NULL;
    gint64 ms;

    if (!is_scalar(parser, value, "a duration", error))
        return FALSE;
    text = shown(value->text);
    if (!vr_clock_parse_duration(value->text, &ms, &why))
        return vr_model_fail(parser, value->line, error, "\"%s\" is not a duration such as PT2M or 90s (%s)", text,
                             (const char *)key->data);
    if (ms < key->min || ms > key->max)
        return vr_model_fail(parser, value->line, error, "%s is out of range (%s)", text, (const char *)key->data);
    *(gint64 *)target = ms;
    return TRUE;
}

static char *list_choices(const VrModelChoice *choices)
{
    GString *list = g_string_new(NULL);

    for (const VrModelChoice *choice = choices; choice->name != NULL; choice++) {
        if (choice > choices)
            g_string_append(list, choice[1].name == NULL ? " or " : ", ");
        g_string_append(list, choice->name);
    }
    return g_string_free(list, FALSE);
}

gboolean vr_model_choice(VrModelParser *parser, const VrYamlNode *value, const VrModelKey *key, void *target,
                         GError **error)
{
    const VrModelChoice *choice = key->data;
    g_autofree char *text = NULL, *choices = NULL;

    if (!is_scalar(parser, value, "text", error))
        return FALSE;
    while (choice->name != NULL && g_ascii_strcasecmp(choice->name, value->text) != 0)
        choice++;
    if (choice->name == NULL) {
        text = shown(value->text);
        choices = list_choices(key->data);
        return vr_model_fail(parser, value->line, error, "\"%s\" is not %s", text, choices);
    }
    if (choice->value == VR_NOT_YET)
        return vr_model_fail(parser, value->line, error, "%s is not supported yet", choice->name);
    if (target != NULL)
        *(int *)target = choice->value;
    return TRUE;
}

static gboolean is_text(VrModelParser *parser, const VrYamlNode *value, VrModelCheck check, GError **error)
{
    const char *must = NULL;
    g_autofree char *text = NULL;

    if (!is_scalar(parser, value, "text", error))
        return FALSE;
    if (is_null(value))
        return vr_model_fail(parser, value->line, error, "has no value");
    if (check != NULL)
        must = check(value->text);
    if (must == NULL)
        return TRUE;
    text = shown(value->text);
    return vr_model_fail(parser, value->line, error, "\"%s\" %s", text, must);
}

gboolean vr_model_text(VrModelParser *parser, const VrYamlNode *value, const VrModelKey *key, void *target,
                       GError **error)
{
    if (!is_text(parser, value, key->check, error))
        return FALSE;
    g_free(*(char **)target); /* a default that the document replaces */
    *(char **)target = g_strdup(value->text);
    return TRUE;
}

static const char *file_name_rule(const char *text)
{
    if (text[0] == '\0')
        return "must be the name of a file";
    for (const char *at = text; *at != '\0'; at = g_utf8_next_char(at)) {
        if (g_unichar_iscntrl(g_utf8_get_char(at)))
            return "must not have control characters";
    }
    return NULL;
}

gboolean vr_model_host_file(VrModelParser *parser, const VrYamlNode *value, const VrModelKey *key, void *target,
                            GError **error)
{
    if (!is_text(parser, value, file_name_rule, error))
        return FALSE;
    *(char **)target = g_strdup(value->text);
    g_ptr_array_add(parser->host_files, (gpointer)value);
    return TRUE;
}

gboolean vr_model_short_name(VrModelParser *parser, const VrYamlNode *value, const VrModelKey *key, void *target,
                             GError **error)
{
    g_autoptr(GError) why = NULL;

    if (!is_text(parser, value, NULL, error))
        return FALSE;
    if (!vr_name_check(value->text, key->data, &why))
        return vr_model_fail(parser, value->line, error, "%s", why->message);
    *(char **)target = g_strdup(value->text);
    return TRUE;
}

gboolean vr_model_version(VrModelParser *parser, const VrYamlNode *value, const VrModelKey *key, void *target,
                          GError **error)
{
    g_autoptr(GError) why = NULL;

    if (!is_text(parser, value, NULL, error))
        return FALSE;
    if (g_ascii_strcasecmp(value->text, "latest") == 0) {
        *(char **)target = g_strdup("latest");
        return TRUE;
    }
    if (!vr_version_check(value->text, &why))
        return vr_model_fail(parser, value->line, error, "%s", why->message);
    *(char **)target = g_strdup(value->text);
    return TRUE;
}

gboolean vr_model_texts(VrModelParser *parser, const VrYamlNode *value, const VrModelKey *key, void *target,
                        GError **error)
{
    g_autoptr(GStrvBuilder) texts = g_strv_builder_new();

    if (value->kind != VR_YAML_LIST)
        return vr_model_fail(parser, value->line, error, "must be a list");
    for (guint i = 0; i < value->values->len; i++) {
        const VrYamlNode *item = value->values->pdata[i];

        if (!is_text(parser, item, key->check, error))
            return FALSE;
        g_strv_builder_add(texts, item->text);
    }
    g_strfreev(*(char ***)target); /* a default that the document replaces */
    *(char ***)target = g_strv_builder_end(texts);
    return TRUE;
}
