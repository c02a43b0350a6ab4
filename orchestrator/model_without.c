/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * The text is cut where the YAML parser says that the instance begins and ends; comments and spelling of the rest stay. What a cut makes of an
 * unusual text is not guessed: the result is parsed and compared.
 */
#include "orchestrator/model_without.h"

#include "base/error.h"
#include "orchestrator/model_change.h"

#include <string.h>
#include <yaml.h>

G_DEFINE_AUTO_CLEANUP_CLEAR_FUNC(yaml_parser_t, yaml_parser_delete)
G_DEFINE_AUTO_CLEANUP_CLEAR_FUNC(yaml_event_t, yaml_event_delete)

/* Places in characters, as the parser counts them. */
typedef struct {
    gsize begin, end;
} Item;

typedef struct {
    GArray *items; /* Item, of the list of instances */
    gboolean flow; /* it is written in brackets */
    guint depth;   /* of what is open */
    gboolean key;  /* at depth 1: a key comes next */
    gboolean here; /* the value of instances is open or comes next */
} Search;

static gboolean is_begin(const yaml_event_t *event)
{
    return event->type == YAML_SEQUENCE_START_EVENT || event->type == YAML_MAPPING_START_EVENT;
}

static gboolean is_end(const yaml_event_t *event)
{
    return event->type == YAML_SEQUENCE_END_EVENT || event->type == YAML_MAPPING_END_EVENT;
}

static void begin_item(Search *search, const yaml_event_t *event)
{
    Item item = {event->start_mark.index, event->end_mark.index};

    g_array_append_val(search->items, item);
}

/* The end of a block has the mark of what comes after it, so what stands in it says where it ends. */
static void extend_item(Search *search, const yaml_event_t *event)
{
    gboolean is_block_end = is_end(event) && event->start_mark.index == event->end_mark.index;

    if (search->items->len > 0 && !is_block_end)
        g_array_index(search->items, Item, search->items->len - 1).end = event->end_mark.index;
}

/* At depth 1 are the keys of the model, at depth 2 the instances of its list. */
static void take(Search *search, const yaml_event_t *event)
{
    if (search->depth == 1 && !is_end(event)) {
        if (search->key)
            search->here = event->type == YAML_SCALAR_EVENT &&
                           g_ascii_strcasecmp((const char *)event->data.scalar.value, "instances") == 0;
        else if (search->here && event->type == YAML_SEQUENCE_START_EVENT)
            search->flow = event->data.sequence_start.style == YAML_FLOW_SEQUENCE_STYLE;
        search->key = !search->key;
    } else if (search->here && search->depth == 2 && is_begin(event)) {
        begin_item(search, event);
    } else if (search->here && search->depth > 2) {
        extend_item(search, event);
    }
    if (is_begin(event))
        search->depth++;
    else if (is_end(event))
        search->depth--;
}

static gboolean find_items(const char *text, Search *search, GError **error)
{
    g_auto(yaml_parser_t) parser = {0};
    gboolean ended = FALSE;

    if (!yaml_parser_initialize(&parser)) {
        g_set_error_literal(error, VR_ERROR, VR_ERROR_FAILED, "the YAML parser could not be made");
        return FALSE;
    }
    yaml_parser_set_encoding(&parser, YAML_UTF8_ENCODING);
    yaml_parser_set_input_string(&parser, (const unsigned char *)text, strlen(text));
    while (!ended) {
        g_auto(yaml_event_t) event = {0};

        if (!yaml_parser_parse(&parser, &event)) {
            g_set_error(error, VR_ERROR, VR_ERROR_INVALID, "the model cannot be parsed: %s", parser.problem);
            return FALSE;
        }
        ended = event.type == YAML_STREAM_END_EVENT;
        if (event.type == YAML_SCALAR_EVENT || is_begin(&event) || is_end(&event))
            take(search, &event);
    }
    return TRUE;
}

/* From the line of its dash to the end of its last line. NULL: it has no dash before it. */
static const char *block_begin(const char *text, const char *item)
{
    while (item > text && strchr(" \t\r\n", item[-1]))
        item--;
    if (item == text || item[-1] != '-')
        return NULL;
    item--;
    while (item > text && strchr(" \t", item[-1]))
        item--;
    return item == text || item[-1] == '\n' ? item : NULL;
}

static const char *block_end(const char *text, const char *end)
{
    if (end > text && end[-1] == '\n')
        return end;
    end += strcspn(end, "\n");
    return *end ? end + 1 : end;
}

static char *cut(const char *text, const Search *search, guint index)
{
    const Item *item = &g_array_index(search->items, Item, index);
    const char *begin = g_utf8_offset_to_pointer(text, (glong)item->begin);
    const char *end = g_utf8_offset_to_pointer(text, (glong)item->end);

    if (!search->flow) {
        begin = block_begin(text, begin);
        end = block_end(text, end);
    } else if (index + 1 < search->items->len) {
        end = g_utf8_offset_to_pointer(text, (glong)item[1].begin);
    } else {
        begin = g_utf8_offset_to_pointer(text, (glong)item[-1].end);
    }
    if (!begin)
        return NULL;
    g_autofree char *before = g_strndup(text, (gsize)(begin - text));
    return g_strconcat(before, end, NULL);
}

static const char *domain_of(const VrModel *model, guint index)
{
    return ((const VrModelInstance *)g_ptr_array_index(model->instances, index))->domain;
}

/* The others are the same, in the same order, and nothing else has changed. */
static gboolean is_without(const char *before_text, const char *after_text, guint index, GError **error)
{
    static const VrChangeContext context = {0};
    g_autoptr(VrModel) before = vr_model_parse(before_text, strlen(before_text), "the model", error);
    g_autoptr(VrModel) after = before ? vr_model_parse(after_text, strlen(after_text), "the model", error) : NULL;
    g_autoptr(GPtrArray) changes = after ? vr_model_compare(before, after, &context) : NULL;
    gboolean same = changes && changes->len == 1 && after->instances->len + 1 == before->instances->len;

    if (!changes)
        return FALSE;
    for (guint i = 0; same && i < after->instances->len; i++)
        same = g_str_equal(domain_of(after, i), domain_of(before, i < index ? i : i + 1));
    if (!same)
        g_set_error_literal(error, VR_ERROR, VR_ERROR_REFUSED, "more than the instance would change");
    return same;
}

char *vr_model_text_without(const char *text, guint index, GError **error)
{
    Search search = {.items = g_array_new(FALSE, FALSE, sizeof(Item)), .key = TRUE};
    g_autoptr(GArray) items = search.items;
    g_autoptr(GError) local = NULL;
    g_autofree char *without = NULL;

    if (find_items(text, &search, &local) && index < items->len && items->len > 1)
        without = cut(text, &search, index);
    if (without && is_without(text, without, index, &local))
        return g_steal_pointer(&without);
    g_set_error(error, VR_ERROR, VR_ERROR_REFUSED, "it cannot be cut out of the model by itself%s%s", local ? ": " : "",
                local ? local->message : "");
    return NULL;
}
