/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "orchestrator/model_extensions.h"

#include "base/clock.h"

#include <jansson.h>
#include <stdlib.h>
#include <string.h>

#define EXTENSIONS_MAX 64
#define FILES_MAX 64
#define SETTINGS_MAX (64 * 1024) /* bytes */
#define MODE_DEFAULT 0600

/* --- settings: any mapping, as JSON ------------------------------------------------------------------- */

static json_t *scalar_json(const VrYamlNode *node)
{
    json_t *value = NULL;

    if (!node->plain)
        return json_string(node->text);
    if (g_str_equal(node->text, "") || g_str_equal(node->text, "~") || g_ascii_strcasecmp(node->text, "null") == 0)
        return json_null();
    if (g_ascii_strcasecmp(node->text, "true") == 0 || g_ascii_strcasecmp(node->text, "false") == 0)
        return json_boolean(g_ascii_tolower(node->text[0]) == 't');
    value = json_loads(node->text, JSON_DECODE_ANY, NULL);
    if (json_is_number(value))
        return value;
    json_decref(value);
    return json_string(node->text);
}

static json_t *node_json(const VrYamlNode *node)
{
    json_t *all;

    if (node->kind == VR_YAML_SCALAR)
        return scalar_json(node);
    all = node->kind == VR_YAML_MAP ? json_object() : json_array();
    for (guint i = 0; i < node->values->len; i++) {
        json_t *value = node_json(node->values->pdata[i]);

        if (node->kind == VR_YAML_MAP)
            json_object_set_new(all, ((const VrYamlNode *)node->keys->pdata[i])->text, value);
        else
            json_array_append_new(all, value);
    }
    return all;
}

static gboolean parse_settings(VrModelParser *parser, const VrYamlNode *value, const VrModelKey *key, void *target,
                               GError **error)
{
    json_auto_t *document = NULL;
    char *text;

    if (value->kind != VR_YAML_MAP)
        return vr_model_fail(parser, value->line, error, "must be a mapping (key: value)");
    document = node_json(value);
    text = json_dumps(document, JSON_COMPACT);
    *(char **)target = g_strdup(text);
    free(text);
    if (strlen(*(char **)target) > SETTINGS_MAX)
        return vr_model_fail(parser, value->line, error, "is larger than 64 KiB");
    return TRUE;
}

/* --- keys --------------------------------------------------------------------------------------------- */

#define FILE_FIELD(field) G_STRUCT_OFFSET(VrExtensionFile, field)

static const VrModelKey file_keys[] = {
    {.name = "source", .parse = vr_model_host_file, .offset = FILE_FIELD(source)},
    {.name = "path", .parse = vr_model_text, .offset = FILE_FIELD(path), .check = vr_model_absolute_path},
    {.name = "mode", .parse = vr_model_mode, .offset = FILE_FIELD(mode)},
    {0},
};

#define FIELD(field) G_STRUCT_OFFSET(VrExtension, field)

static const VrModelKey protected_keys[] = {
    {.name = "file", .parse = vr_model_host_file, .offset = FIELD(protected_file)},
    {0},
};

static const VrModelKey extension_keys[] = {
    {.name = "name", .parse = vr_model_short_name, .offset = FIELD(name), .data = "extension"},
    {.name = "script", .parse = vr_model_host_file, .offset = FIELD(script)},
    {.name = "command", .parse = vr_model_texts, .offset = FIELD(command)},
    {.name = "files", .parse = vr_model_extension_files, .offset = FIELD(files), .data = file_keys},
    {.name = "timeout",
     .parse = vr_model_duration,
     .offset = FIELD(timeout_ms),
     .min = 1000,
     .max = 7200000,
     .data = "PT1S to PT2H"},
    {.name = "provisionAfterExtensions", .parse = vr_model_texts, .offset = FIELD(after)},
    {.name = "settings", .parse = parse_settings, .offset = FIELD(settings)},
    {.name = "protectedSettings", .parse = vr_model_section, .offset = 0, .data = protected_keys},
    {.name = "forceUpdateTag", .parse = vr_model_text, .offset = FIELD(force_update_tag)},
    {.name = "suppressFailures", .parse = vr_model_boolean, .offset = FIELD(suppress_failures)},
    {0},
};

const VrModelKey vr_model_extension_profile_keys[] = {
    {.name = "extensions",
     .parse = vr_model_extensions,
     .offset = G_STRUCT_OFFSET(VrModel, extensions),
     .data = extension_keys},
    {0},
};

/* --- one extension ------------------------------------------------------------------------------------ */

static void file_free(VrExtensionFile *file)
{
    g_free(file->source);
    g_free(file->path);
    g_free(file);
}

static void extension_free(VrExtension *extension)
{
    g_free(extension->name);
    g_free(extension->script);
    g_strfreev(extension->command);
    g_ptr_array_unref(extension->files);
    g_strfreev(extension->after);
    g_free(extension->settings);
    g_free(extension->protected_file);
    g_free(extension->force_update_tag);
    g_free(extension);
}

GPtrArray *vr_model_extensions_new(void)
{
    return g_ptr_array_new_with_free_func((GDestroyNotify)extension_free);
}

static VrExtension *extension_new(void)
{
    VrExtension *extension = g_new0(VrExtension, 1);

    extension->files = g_ptr_array_new_with_free_func((GDestroyNotify)file_free);
    extension->after = g_new0(char *, 1);
    extension->timeout_ms = 300000;
    return extension;
}

static gboolean parse_file(VrModelParser *parser, const VrYamlNode *item, GPtrArray *files, GError **error)
{
    VrExtensionFile *file = g_new0(VrExtensionFile, 1);

    g_ptr_array_add(files, file);
    file->mode = MODE_DEFAULT;
    if (!vr_model_keys(parser, item, file_keys, file, error))
        return FALSE;
    if (file->source == NULL || file->path == NULL)
        return vr_model_fail(parser, item->line, error, "%s is missing", file->source == NULL ? "source" : "path");
    return TRUE;
}

gboolean vr_model_extension_files(VrModelParser *parser, const VrYamlNode *value, const VrModelKey *key, void *target,
                                  GError **error)
{
    gsize length = parser->path->len;

    if (value->kind != VR_YAML_LIST || value->values->len > FILES_MAX)
        return vr_model_fail(parser, value->line, error,
                             "must be a list of at most %u files ({source: FILE, path: PATH})", FILES_MAX);
    for (guint i = 0; i < value->values->len; i++) {
        g_string_append_printf(parser->path, "[%u]", i);
        if (!parse_file(parser, value->values->pdata[i], *(GPtrArray **)target, error))
            return FALSE;
        g_string_truncate(parser->path, length);
    }
    return TRUE;
}

static gboolean check_extension(VrModelParser *parser, const VrExtension *extension, GError **error)
{
    if (extension->name == NULL)
        return vr_model_fail(parser, extension->line, error, "name is missing");
    if ((extension->script == NULL) == (extension->command == NULL))
        return vr_model_fail(parser, extension->line, error, "%s must have one of script and command", extension->name);
    if (extension->command == NULL)
        return TRUE;
    if (extension->command[0] == NULL || vr_model_absolute_path(extension->command[0]) != NULL)
        return vr_model_fail(parser, extension->line, error,
                             "the command of %s must be a list, the absolute path of a program first", extension->name);
    return TRUE;
}

static gboolean parse_extension(VrModelParser *parser, const VrYamlNode *item, GPtrArray *extensions, GHashTable *names,
                                GError **error)
{
    VrExtension *extension = extension_new();

    g_ptr_array_add(extensions, extension);
    extension->line = item->line;
    if (!vr_model_keys(parser, item, extension_keys, extension, error) || !check_extension(parser, extension, error))
        return FALSE;
    if (g_hash_table_insert(names, extension->name, GUINT_TO_POINTER(extensions->len)))
        return TRUE;
    return vr_model_fail(parser, item->line, error, "the name %s comes twice", extension->name);
}

/* --- the order ---------------------------------------------------------------------------------------- */

/* names: name -> index + 1 */
static gboolean check_names(VrModelParser *parser, const GPtrArray *extensions, GHashTable *names, GError **error)
{
    for (guint i = 0; i < extensions->len; i++) {
        const VrExtension *extension = extensions->pdata[i];

        for (char **name = extension->after; *name != NULL; name++) {
            if (g_str_equal(*name, extension->name))
                return vr_model_fail(parser, extension->line, error, "%s comes after itself", *name);
            if (!g_hash_table_contains(names, *name))
                return vr_model_fail(parser, extension->line, error,
                                     "%s comes after %s, and no extension has that name; who takes an extension away "
                                     "also takes it from those that need it",
                                     extension->name, *name);
        }
    }
    return TRUE;
}

static guint index_of(GHashTable *names, const char *name)
{
    return GPOINTER_TO_UINT(g_hash_table_lookup(names, name)) - 1;
}

static gboolean is_ready(const VrExtension *extension, GHashTable *names, const gboolean *done)
{
    for (char **name = extension->after; *name != NULL; name++)
        if (!done[index_of(names, *name)])
            return FALSE;
    return TRUE;
}

/* Each of those that are left needs another one of them, so whoever follows that comes around: "a after b after a". */
static char *cycle_text(const GPtrArray *extensions, GHashTable *names, const gboolean *done)
{
    g_autofree guint *seen = g_new0(guint, extensions->len); /* step + 1 */
    g_autofree guint *way = g_new0(guint, extensions->len + 1);
    GString *text = g_string_new(NULL);
    guint at = 0, steps = 0, first;

    while (done[at])
        at++;
    while (seen[at] == 0) {
        const VrExtension *extension = extensions->pdata[at];
        char **name = extension->after;

        way[steps++] = at;
        seen[at] = steps;
        while (done[index_of(names, *name)])
            name++;
        at = index_of(names, *name);
    }
    first = seen[at] - 1;
    way[steps] = at;
    for (guint i = first; i <= steps; i++)
        g_string_append_printf(text, "%s%s", i > first ? " after " : "",
                               ((const VrExtension *)extensions->pdata[way[i]])->name);
    return g_string_free(text, FALSE);
}

/* The first, in the order of the model, of those that may go next. -1: none. */
static int next_of(const GPtrArray *extensions, GHashTable *names, const gboolean *done)
{
    for (guint i = 0; i < extensions->len; i++)
        if (!done[i] && is_ready(extensions->pdata[i], names, done))
            return (int)i;
    return -1;
}

static gboolean put_in_order(VrModelParser *parser, guint line, GPtrArray *extensions, GHashTable *names,
                             GError **error)
{
    guint count = extensions->len;
    g_autofree gboolean *done = g_new0(gboolean, count + 1);
    g_autofree gpointer *order = g_new0(gpointer, count + 1);

    for (guint i = 0; i < count; i++) {
        int next = next_of(extensions, names, done);

        if (next < 0) {
            g_autofree char *cycle = cycle_text(extensions, names, done);
            return vr_model_fail(parser, line, error, "provisionAfterExtensions goes in a circle: %s", cycle);
        }
        order[i] = extensions->pdata[next];
        done[next] = TRUE;
    }
    for (guint i = 0; i < count; i++)
        extensions->pdata[i] = order[i];
    return TRUE;
}

gboolean vr_model_extensions(VrModelParser *parser, const VrYamlNode *value, const VrModelKey *key, void *target,
                             GError **error)
{
    GPtrArray *extensions = *(GPtrArray **)target;
    g_autoptr(GHashTable) names = g_hash_table_new(g_str_hash, g_str_equal);
    gsize length = parser->path->len;

    if (value->kind != VR_YAML_LIST || value->values->len > EXTENSIONS_MAX)
        return vr_model_fail(parser, value->line, error, "must be a list of at most %u extensions ({name: NAME, …})",
                             EXTENSIONS_MAX);
    for (guint i = 0; i < value->values->len; i++) {
        g_string_append_printf(parser->path, "[%u]", i);
        if (!parse_extension(parser, value->values->pdata[i], extensions, names, error))
            return FALSE;
        g_string_truncate(parser->path, length);
    }
    return check_names(parser, extensions, names, error) && put_in_order(parser, value->line, extensions, names, error);
}

/* --- comparing ---------------------------------------------------------------------------------------- */

static void append_words(GString *text, const char *what, char *const *words)
{
    g_autofree char *joined = words != NULL && words[0] != NULL ? g_strjoinv(" ", (char **)words) : NULL;

    if (joined != NULL)
        g_string_append_printf(text, ", %s %s", what, joined);
}

static void append_text(GString *text, const char *what, const char *value)
{
    if (value != NULL)
        g_string_append_printf(text, ", %s %s", what, value);
}

static void append_extension(GString *text, const VrExtension *extension)
{
    g_autofree char *timeout = vr_clock_format_duration(extension->timeout_ms);

    g_string_append_printf(text, "%s%s (", text->len > 0 ? "; " : "", extension->name);
    g_string_append_printf(text, "timeout %s", timeout);
    append_text(text, "script", extension->script);
    append_words(text, "command", extension->command);
    append_words(text, "after", extension->after);
    for (guint i = 0; i < extension->files->len; i++) {
        const VrExtensionFile *file = extension->files->pdata[i];
        g_string_append_printf(text, ", file %s as %s %04o", file->source, file->path, file->mode);
    }
    append_text(text, "settings", extension->settings);
    append_text(text, "protectedSettings", extension->protected_file);
    append_text(text, "forceUpdateTag", extension->force_update_tag);
    append_text(text, "suppressFailures", extension->suppress_failures ? "true" : NULL);
    g_string_append_c(text, ')');
}

char *vr_model_extensions_text(const GPtrArray *extensions)
{
    g_autoptr(GString) all = g_string_new(NULL);
    g_autoptr(GString) names = g_string_new(NULL);
    g_autofree char *digest = NULL;

    for (guint i = 0; i < extensions->len; i++) {
        append_extension(all, extensions->pdata[i]);
        g_string_append_printf(names, "%s%s", i > 0 ? ", " : "", ((const VrExtension *)extensions->pdata[i])->name);
    }
    if (extensions->len == 0)
        return NULL;
    digest = g_compute_checksum_for_string(G_CHECKSUM_SHA256, all->str, -1);
    return g_strdup_printf("%s (%.8s)", names->str, digest);
}
