/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "orchestrator/yaml_doc.h"

#include "base/error.h"

#include <string.h>
#include <yaml.h>

G_DEFINE_AUTO_CLEANUP_CLEAR_FUNC(yaml_parser_t, yaml_parser_delete)
G_DEFINE_AUTO_CLEANUP_CLEAR_FUNC(yaml_event_t, yaml_event_delete)

typedef struct {
    yaml_parser_t *parser;
    const char *file_name;
} Loader;

void vr_yaml_node_free(VrYamlNode *node)
{
    if (node == NULL)
        return;
    g_free(node->text);
    g_clear_pointer(&node->keys, g_ptr_array_unref);
    g_clear_pointer(&node->values, g_ptr_array_unref);
    g_free(node);
}

static gboolean refuse(const Loader *loader, gsize line, const char *why, GError **error)
{
    g_set_error(error, VR_ERROR, VR_ERROR_USAGE, "%s:%" G_GSIZE_FORMAT ": %s", loader->file_name, line + 1, why);
    return FALSE;
}

static gboolean next_event(const Loader *loader, yaml_event_t *event, GError **error)
{
    const yaml_parser_t *parser = loader->parser;

    if (yaml_parser_parse(loader->parser, event))
        return TRUE;
    if (parser->error == YAML_READER_ERROR) /* the reader counts bytes, not lines */
        return refuse(loader, parser->mark.line, "is not UTF-8 text, or has control characters", error);
    if (g_strcmp0(parser->context, "while scanning an alias") == 0) /* as a calendar expression does */
        return refuse(loader, parser->problem_mark.line, "a value that begins with * must stand in quotes", error);
    return refuse(loader, parser->problem_mark.line, parser->problem != NULL ? parser->problem : "cannot be parsed",
                  error);
}

static VrYamlNode *node_new(VrYamlKind kind, const yaml_event_t *event)
{
    VrYamlNode *node = g_new0(VrYamlNode, 1);

    node->kind = kind;
    node->line = (guint)event->start_mark.line + 1;
    if (kind != VR_YAML_SCALAR)
        node->values = g_ptr_array_new_with_free_func((GDestroyNotify)vr_yaml_node_free);
    if (kind == VR_YAML_MAP)
        node->keys = g_ptr_array_new_with_free_func((GDestroyNotify)vr_yaml_node_free);
    return node;
}

static VrYamlNode *load_node(const Loader *loader, const yaml_event_t *event, guint depth, GError **error);

static VrYamlNode *load_scalar(const Loader *loader, const yaml_event_t *event, GError **error)
{
    const char *text = (const char *)event->data.scalar.value;
    VrYamlNode *node;

    if (strlen(text) != event->data.scalar.length) {
        refuse(loader, event->start_mark.line, "a text has a NUL character", error);
        return NULL;
    }
    node = node_new(VR_YAML_SCALAR, event);
    node->text = g_strdup(text);
    node->begin = event->start_mark.index;
    node->end = event->end_mark.index;
    node->plain = event->data.scalar.style == YAML_PLAIN_SCALAR_STYLE;
    return node;
}

static VrYamlNode *load_list(const Loader *loader, const yaml_event_t *start, guint depth, GError **error)
{
    g_autoptr(VrYamlNode) list = node_new(VR_YAML_LIST, start);

    for (;;) {
        g_auto(yaml_event_t) event = {0};
        VrYamlNode *item;

        if (!next_event(loader, &event, error))
            return NULL;
        if (event.type == YAML_SEQUENCE_END_EVENT)
            return g_steal_pointer(&list);
        item = load_node(loader, &event, depth + 1, error);
        if (item == NULL)
            return NULL;
        g_ptr_array_add(list->values, item);
    }
}

/* A key must be text, and none may come twice: keys are matched without regard to case, so "Name" and "name" clash. */
static gboolean check_key(const Loader *loader, const VrYamlNode *key, GHashTable *seen, GError **error)
{
    g_autofree char *folded = NULL;

    if (key->kind != VR_YAML_SCALAR)
        return refuse(loader, key->line - 1, "a key must be text", error);
    folded = g_ascii_strdown(key->text, -1);
    if (g_hash_table_contains(seen, folded)) {
        g_autofree char *shown = g_utf8_substring(key->text, 0, MIN(64, g_utf8_strlen(key->text, -1)));
        g_autofree char *why = g_strdup_printf("the key %s comes twice", shown);

        return refuse(loader, key->line - 1, why, error);
    }
    g_hash_table_add(seen, g_steal_pointer(&folded));
    return TRUE;
}

static VrYamlNode *load_map(const Loader *loader, const yaml_event_t *start, guint depth, GError **error)
{
    g_autoptr(VrYamlNode) map = node_new(VR_YAML_MAP, start);
    g_autoptr(GHashTable) seen = g_hash_table_new_full(g_str_hash, g_str_equal, g_free, NULL);

    for (;;) {
        g_auto(yaml_event_t) event = {0};
        VrYamlNode *node;

        if (!next_event(loader, &event, error))
            return NULL;
        if (event.type == YAML_MAPPING_END_EVENT)
            return g_steal_pointer(&map);
        node = load_node(loader, &event, depth + 1, error);
        if (node == NULL)
            return NULL;
        if (map->keys->len > map->values->len) {
            g_ptr_array_add(map->values, node);
            continue;
        }
        g_ptr_array_add(map->keys, node);
        if (!check_key(loader, node, seen, error))
            return NULL;
    }
}

/* An anchor would allow a small file to mean a huge tree, a tag to give a value another type than we see. */
static const char *forbidden(const yaml_event_t *event)
{
    const yaml_char_t *anchor = NULL, *tag = NULL;

    switch (event->type) {
    case YAML_ALIAS_EVENT:
        return "aliases are not allowed";
    case YAML_SCALAR_EVENT:
        anchor = event->data.scalar.anchor;
        tag = event->data.scalar.tag;
        break;
    case YAML_SEQUENCE_START_EVENT:
        anchor = event->data.sequence_start.anchor;
        tag = event->data.sequence_start.tag;
        break;
    case YAML_MAPPING_START_EVENT:
        anchor = event->data.mapping_start.anchor;
        tag = event->data.mapping_start.tag;
        break;
    default:
        return "is not complete";
    }
    if (anchor != NULL)
        return "anchors are not allowed";
    return tag != NULL ? "tags are not allowed" : NULL;
}

static VrYamlNode *load_node(const Loader *loader, const yaml_event_t *event, guint depth, GError **error)
{
    const char *why = depth > VR_YAML_MAX_DEPTH ? "is nested more than 32 deep" : forbidden(event);

    if (why != NULL) {
        refuse(loader, event->start_mark.line, why, error);
        return NULL;
    }
    if (event->type == YAML_SCALAR_EVENT)
        return load_scalar(loader, event, error);
    if (event->type == YAML_SEQUENCE_START_EVENT)
        return load_list(loader, event, depth, error);
    return load_map(loader, event, depth, error);
}

/* Reads on to an event of that type; any other is refused with `otherwise`. */
static gboolean expect(const Loader *loader, yaml_event_type_t type, const char *otherwise, GError **error)
{
    g_auto(yaml_event_t) event = {0};

    if (!next_event(loader, &event, error))
        return FALSE;
    return event.type == type || refuse(loader, event.start_mark.line, otherwise, error);
}

static VrYamlNode *load_document(const Loader *loader, GError **error)
{
    g_auto(yaml_event_t) event = {0};
    g_autoptr(VrYamlNode) root = NULL;

    if (!expect(loader, YAML_STREAM_START_EVENT, "cannot be parsed", error) ||
        !expect(loader, YAML_DOCUMENT_START_EVENT, "is empty", error) || !next_event(loader, &event, error))
        return NULL;
    root = load_node(loader, &event, 1, error);
    if (root == NULL || !expect(loader, YAML_DOCUMENT_END_EVENT, "has more than one value", error) ||
        !expect(loader, YAML_STREAM_END_EVENT, "has more than one document", error))
        return NULL;
    return g_steal_pointer(&root);
}

VrYamlNode *vr_yaml_parse(const char *text, gsize length, const char *file_name, GError **error)
{
    g_auto(yaml_parser_t) parser = {0};
    Loader loader = {.parser = &parser, .file_name = file_name};

    if (length > VR_YAML_MAX_SIZE) {
        refuse(&loader, 0, "is larger than 1 MiB", error);
        return NULL;
    }
    if (!yaml_parser_initialize(&parser)) {
        refuse(&loader, 0, "the YAML parser could not be made", error);
        return NULL;
    }
    yaml_parser_set_encoding(&parser, YAML_UTF8_ENCODING);
    yaml_parser_set_input_string(&parser, (const unsigned char *)text, length);
    return load_document(&loader, error);
}
