/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "orchestrator/daemon/route_words.h"

#include "base/error.h"

#include <string.h>

#define API_VERSION "api-version"

/* ---- the body ---- */

/* Before the parser, which calls itself once a level. */
static gboolean is_deep(const char *text, gsize length)
{
    gboolean quoted = FALSE;
    gint depth = 0;

    for (gsize i = 0; i < length; i++) {
        if (quoted && text[i] == '\\')
            i++;
        else if (text[i] == '"')
            quoted = !quoted;
        else if (!quoted && (text[i] == '{' || text[i] == '[') && ++depth > VR_BODY_MAX_DEPTH)
            return TRUE;
        else if (!quoted && (text[i] == '}' || text[i] == ']'))
            depth--;
    }
    return FALSE;
}

json_t *vr_body_parse(const char *text, gsize length, GError **error)
{
    json_error_t where;
    json_t *body;

    if (length == 0)
        return json_object();
    if (is_deep(text, length)) {
        g_set_error(error, VR_ERROR, VR_ERROR_USAGE, "the body is nested more than %d deep", VR_BODY_MAX_DEPTH);
        return NULL;
    }
    body = json_loadb(text, length, JSON_REJECT_DUPLICATES, &where);
    if (json_is_object(body))
        return body;
    if (body)
        g_set_error(error, VR_ERROR, VR_ERROR_USAGE, "the body is JSON, and must be an object: {…}");
    else
        g_set_error(error, VR_ERROR, VR_ERROR_USAGE, "the body is not JSON: line %d: %s", where.line, where.text);
    json_decref(body);
    return NULL;
}

/* ---- its fields ---- */

typedef struct {
    const VrRouteMatch *match;
    GPtrArray *options; /* words */
    GHashTable
        *seen; /* names; "exactVersion" and "version" are one option, which GOption takes last: both are refused */
    GPtrArray *instances; /* words; NULL: not named */
    char *argument;       /* of VR_FIELD_ARGUMENT or WORD */
} Words;

static void words_clear(Words *words)
{
    g_clear_pointer(&words->options, g_ptr_array_unref);
    g_clear_pointer(&words->seen, g_hash_table_unref);
    g_clear_pointer(&words->instances, g_ptr_array_unref);
    g_clear_pointer(&words->argument, g_free);
}
G_DEFINE_AUTO_CLEANUP_CLEAR_FUNC(Words, words_clear)

static gboolean wrong(GError **error, const VrRouteField *field, const char *must)
{
    g_set_error(error, VR_ERROR, VR_ERROR_USAGE, "'%s' must be %s", field->name, must);
    return FALSE;
}

static void add_option(Words *words, const VrRouteField *field, const char *value)
{
    g_ptr_array_add(words->options, value ? g_strconcat(field->option, "=", value, NULL) : g_strdup(field->option));
}

static gboolean is_text(json_t *value, gsize least)
{
    return json_is_string(value) && json_string_length(value) >= least && json_string_length(value) <= VR_WORD_MAX;
}

static gboolean take_strings(Words *words, const VrRouteField *field, json_t *value, GError **error)
{
    gsize i;
    json_t *one;

    if (!json_is_array(value) || json_array_size(value) > VR_NAMES_MAX)
        return wrong(error, field, "a list of names, 10,000 at most");
    if (field->kind == VR_FIELD_INSTANCES)
        words->instances = g_ptr_array_new_with_free_func(g_free);
    json_array_foreach(value, i, one)
    {
        if (!is_text(one, 1))
            return wrong(error, field, "a list of names, and each a text of 4,096 bytes at most");
        if (field->kind == VR_FIELD_INSTANCES)
            g_ptr_array_add(words->instances, g_strdup(json_string_value(one)));
        else
            add_option(words, field, json_string_value(one));
    }
    return TRUE;
}

static gboolean take_number(Words *words, const VrRouteField *field, json_t *value, GError **error)
{
    g_autofree char *text = NULL;

    if (!json_is_integer(value) || json_integer_value(value) < 0 || json_integer_value(value) > G_MAXINT)
        return wrong(error, field, "a number from 0");
    text = g_strdup_printf("%d", (int)json_integer_value(value));
    if (field->kind == VR_FIELD_ARGUMENT)
        words->argument = g_steal_pointer(&text);
    else
        add_option(words, field, text);
    return TRUE;
}

static gboolean take_field(Words *words, const char *name, json_t *value, GError **error)
{
    const VrRouteField *field = vr_route_field(name);

    if (!field || !vr_route_takes(words->match->route, name)) {
        g_autofree char *shown = vr_printable(name, -1);
        g_set_error(error, VR_ERROR, VR_ERROR_USAGE, "'%s' is not known here%s%s", shown,
                    *words->match->route->fields ? "; what is: " : "; nothing can be said in query or body",
                    words->match->route->fields);
        return FALSE;
    }
    if (!g_hash_table_add(words->seen, (gpointer)field->name)) {
        g_set_error(error, VR_ERROR, VR_ERROR_USAGE, "'%s' comes twice", field->name);
        return FALSE;
    }
    switch (field->kind) {
    case VR_FIELD_TEXT:
    case VR_FIELD_WORD:
        if (!is_text(value, 0))
            return wrong(error, field, "a text, of 4,096 bytes at most");
        if (field->kind == VR_FIELD_WORD)
            words->argument = g_strdup(json_string_value(value));
        else
            add_option(words, field, json_string_value(value));
        return TRUE;
    case VR_FIELD_FLAG:
        if (!json_is_boolean(value))
            return wrong(error, field, "true or false");
        if (json_is_true(value))
            add_option(words, field, NULL);
        return TRUE;
    case VR_FIELD_NUMBER:
    case VR_FIELD_ARGUMENT:
        return take_number(words, field, value, error);
    case VR_FIELD_LIST:
    case VR_FIELD_INSTANCES:
        break;
    }
    return take_strings(words, field, value, error);
}

/* What a query says, as a body would. NULL: it cannot be read as that. */
static json_t *query_value(const char *name, const char *text)
{
    const VrRouteField *field = vr_route_field(name);
    guint64 number;

    if (!field)
        return json_null();
    switch (field->kind) {
    case VR_FIELD_TEXT:
    case VR_FIELD_WORD:
        return json_string(text);
    case VR_FIELD_FLAG:
        if (g_ascii_strcasecmp(text, "true") == 0 || g_ascii_strcasecmp(text, "false") == 0)
            return json_boolean(g_ascii_strcasecmp(text, "true") == 0);
        return json_null();
    case VR_FIELD_NUMBER:
    case VR_FIELD_ARGUMENT:
        if (g_ascii_string_to_unsigned(text, 10, 0, G_MAXINT, &number, NULL))
            return json_integer((json_int_t)number);
        return json_null();
    case VR_FIELD_LIST:
    case VR_FIELD_INSTANCES:
        break;
    }
    return json_pack("[s]", text);
}

static gboolean take_query(Words *words, GHashTable *query, GError **error)
{
    GHashTableIter iter;
    gpointer name, text;

    if (!query)
        return TRUE;
    g_hash_table_iter_init(&iter, query);
    while (g_hash_table_iter_next(&iter, &name, &text)) {
        json_auto_t *value = NULL;
        if (g_ascii_strcasecmp(name, API_VERSION) == 0)
            continue;
        value = query_value(name, text);
        if (!take_field(words, name, value, error))
            return FALSE;
    }
    return TRUE;
}

static gboolean take_body(Words *words, json_t *body, GError **error)
{
    const char *name;
    json_t *value;

    json_object_foreach(body, name, value)
    {
        if (!take_field(words, name, value, error))
            return FALSE;
    }
    return TRUE;
}

/* ---- the words ---- */

/* I3: all is never what is left unsaid. */
static gboolean add_instances(const Words *words, GPtrArray *options, GPtrArray *arguments, GError **error)
{
    if (!words->instances || words->instances->len == 0) {
        g_set_error(error, VR_ERROR, VR_ERROR_USAGE,
                    "instanceIds is missing: name the instances, or [\"*\"] for all of them");
        return FALSE;
    }
    if (words->instances->len == 1 && g_str_equal(words->instances->pdata[0], "*")) {
        g_ptr_array_add(options, g_strdup("--all"));
        return TRUE;
    }
    for (guint i = 0; i < words->instances->len; i++)
        g_ptr_array_add(arguments, g_strdup(words->instances->pdata[i]));
    return TRUE;
}

/* "--sku={sku}" or "{set}": what stands before the brace, and the value. NULL: there is no brace. */
static char *expand(const VrRouteMatch *match, const char *word)
{
    const char *brace = strchr(word, '{');
    g_autofree char *name = brace ? g_strndup(brace + 1, strlen(brace) - 2) : NULL;
    const char *value = name ? vr_route_value(match, name) : NULL;

    return value ? g_strdup_printf("%.*s%s", (int)(brace - word), word, value) : NULL;
}

/* word: "{upgradeDomain}" */
static gboolean missing(const char *word, GError **error)
{
    g_set_error(error, VR_ERROR, VR_ERROR_USAGE, "%.*s is missing", (int)strlen(word) - 2, word + 1);
    return FALSE;
}

static gboolean add_word(const Words *words, const char *word, GPtrArray *options, GPtrArray *arguments, GError **error)
{
    char *expanded = expand(words->match, word);

    if (expanded)
        g_ptr_array_add(*word == '-' ? options : arguments, expanded);
    else if (g_str_equal(word, "{instances}"))
        return add_instances(words, options, arguments, error);
    else if (*word == '{' && !words->argument)
        return missing(word, error);
    else if (*word == '{')
        g_ptr_array_add(arguments, g_strdup(words->argument));
    else
        g_ptr_array_add(*word == '-' && word[1] ? options : arguments, g_strdup(word));
    return TRUE;
}

static gboolean has_document(const VrRoute *route)
{
    return route->kind != VR_ROUTE_LINES && route->kind != VR_ROUTE_TEXT;
}

/* [--json] COMMAND OPTION… -- ARGUMENT… */
static char **compose(Words *words, GError **error)
{
    g_auto(GStrv) template = g_strsplit(words->match->route->words, " ", -1);
    g_autoptr(GPtrArray) all = g_ptr_array_new_with_free_func(g_free);
    g_autoptr(GPtrArray) arguments = g_ptr_array_new_with_free_func(g_free);

    if (has_document(words->match->route))
        g_ptr_array_add(all, g_strdup("--json"));
    g_ptr_array_add(all, g_strdup(template[0]));
    for (char **word = template + 1; *word; word++)
        if (!add_word(words, *word, all, arguments, error))
            return NULL;
    for (guint i = 0; i < words->options->len; i++)
        g_ptr_array_add(all, g_strdup(words->options->pdata[i]));
    g_ptr_array_add(all, g_strdup("--"));
    for (guint i = 0; i < arguments->len; i++)
        g_ptr_array_add(all, g_strdup(arguments->pdata[i]));
    g_ptr_array_add(all, NULL);
    return (char **)g_ptr_array_free(g_steal_pointer(&all), FALSE);
}

char **vr_route_words(const VrRouteMatch *match, GHashTable *query, json_t *body, GError **error)
{
    g_auto(Words) words = {.match = match};

    words.options = g_ptr_array_new_with_free_func(g_free);
    words.seen = g_hash_table_new(g_str_hash, g_str_equal);
    if (!take_query(&words, query, error) || (body && !take_body(&words, body, error)))
        return NULL;
    return compose(&words, error);
}
