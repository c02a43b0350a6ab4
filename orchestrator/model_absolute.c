/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * A model is read again and again, by processes that stand elsewhere: what its text says of files on this host must not depend on where
 * the text lay. The names are put into the text where the YAML parser says that they stand. What that makes of an unusual
 * text is not guessed: the result is parsed, and its names compared.
 */
#include "base/error.h"
#include "orchestrator/model_keys.h"

#include <string.h>

/* In single quotes every character that a name may have stands for itself, but for those. */
static void append_quoted(GString *text, const char *name)
{
    g_auto(GStrv) parts = g_strsplit(name, "'", -1);
    g_autofree char *doubled = g_strjoinv("''", parts);

    g_string_append_printf(text, "'%s'", doubled);
}

static char *absolute_name(const VrYamlNode *node, const char *directory)
{
    return g_path_is_absolute(node->text) ? g_strdup(node->text) : g_canonicalize_filename(node->text, directory);
}

static char *put_names(const char *text, const GPtrArray *nodes, const char *directory)
{
    GString *result = g_string_new(NULL);
    const char *at = text;

    for (guint i = 0; i < nodes->len; i++) {
        const VrYamlNode *node = g_ptr_array_index(nodes, i);
        const char *begin = g_utf8_offset_to_pointer(text, (glong)node->begin);
        g_autofree char *name = absolute_name(node, directory);

        if (g_path_is_absolute(node->text))
            continue;
        g_string_append_len(result, at, begin - at);
        append_quoted(result, name);
        at = g_utf8_offset_to_pointer(text, (glong)node->end);
    }
    g_string_append(result, at);
    return g_string_free(result, FALSE);
}

static gboolean says_so(const char *text, const char *file_name, const GPtrArray *before, const char *directory,
                        GError **error)
{
    g_autoptr(GPtrArray) after = g_ptr_array_new();
    g_autoptr(VrYamlNode) root = NULL;
    g_autoptr(VrModel) model = vr_model_parse_document(text, strlen(text), file_name, &root, after, error);
    gboolean same = model != NULL && after->len == before->len;

    for (guint i = 0; same && i < after->len; i++) {
        const VrYamlNode *was = g_ptr_array_index(before, i), *is = g_ptr_array_index(after, i);
        g_autofree char *name = absolute_name(was, directory);

        same = g_str_equal(is->text, name);
        if (!same)
            g_set_error(error, VR_ERROR, VR_ERROR_USAGE,
                        "%s:%u: write the name of this file as one plain or quoted text", file_name, was->line);
    }
    return same;
}

char *vr_model_text_absolute(const char *text, gsize length, const char *file_name, const char *directory,
                             GError **error)
{
    g_autoptr(GPtrArray) nodes = g_ptr_array_new();
    g_autoptr(VrYamlNode) root = NULL;
    g_autoptr(VrModel) model = vr_model_parse_document(text, length, file_name, &root, nodes, error);
    g_autofree char *absolute = NULL;

    if (model == NULL)
        return NULL;
    absolute = put_names(text, nodes, directory);
    return says_so(absolute, file_name, nodes, directory, error) ? g_steal_pointer(&absolute) : NULL;
}
