/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "orchestrator/model_outside.h"

#include "base/clock.h"
#include "orchestrator/expiry.h"
#include "orchestrator/url.h"

#include <string.h>

#define RESOURCE(field) G_STRUCT_OFFSET(VrModelResource, field)
#define FILE_AT(where) .parse = vr_model_text, .offset = RESOURCE(where), .check = vr_model_absolute_path
#define SECTION(keys) .parse = vr_model_section, .offset = 0, .data = (keys)

static gboolean parse_url(VrModelParser *parser, const VrYamlNode *value, const VrModelKey *key, void *target,
                          GError **error);
static gboolean parse_time(VrModelParser *parser, const VrYamlNode *value, const VrModelKey *key, void *target,
                           GError **error);

static const VrModelChoice methods[] = {{"HEAD", FALSE}, {"GET", TRUE}, {0}};
static const VrModelChoice places[] = {{"host", FALSE}, {"guest", TRUE}, {0}};

static const VrModelKey url_keys[] = {{.name = "file", FILE_AT(url_file)}, {0}};
static const VrModelKey headers_keys[] = {{.name = "file", FILE_AT(headers_file)}, {0}};
static const VrModelKey token_keys[] = {
    {.name = "file", FILE_AT(token_file)},
    {.name = "expiresAt", .parse = parse_time, .offset = RESOURCE(token_until_us)},
    {0},
};

const VrModelKey vr_model_outside_keys[] = {
    {.name = "url", .parse = parse_url, .offset = 0},
    {.name = "method", .parse = vr_model_choice, .offset = RESOURCE(get), .data = methods},
    {.name = "headers", SECTION(headers_keys)},
    {.name = "expect", .parse = vr_model_number, .offset = RESOURCE(expect), .min = 200, .max = 599},
    {.name = "caFile", FILE_AT(ca_file)},
    {.name = "from", .parse = vr_model_choice, .offset = RESOURCE(from_guest), .data = places},
    {.name = "file", FILE_AT(file)},
    {.name = "certificate", FILE_AT(certificate)},
    {.name = "token", SECTION(token_keys)},
    {.name = "validFor",
     .parse = vr_model_duration,
     .offset = RESOURCE(valid_for_ms),
     .min = 0,
     .max = 2592000000,
     .data = "PT0S to P30D"},
    {0},
};

/* --- values ------------------------------------------------------------------------------------------ */

static gboolean has_signature(const char *query)
{
    return query != NULL && (g_str_has_prefix(query, "sig=") || strstr(query, "&sig=") != NULL);
}

/* A text, or {file: PATH}. What is refused is not repeated: it may be a secret. */
static gboolean parse_url(VrModelParser *parser, const VrYamlNode *value, const VrModelKey *key, void *target,
                          GError **error)
{
    VrModelResource *resource = target;
    g_auto(VrUrl) url = {0};
    const char *must;

    if (value->kind == VR_YAML_MAP)
        return vr_model_keys(parser, value, url_keys, resource, error);
    if (value->kind == VR_YAML_LIST)
        return vr_model_fail(parser, value->line, error, "must be a URL, or {file: PATH}");
    must = vr_url_parse(value->text, &url);
    if (must == NULL && has_signature(url.query))
        must =
            "must not hold a signature (sig=): put the URL into a file that only root can read, and give {file: PATH}";
    if (must != NULL)
        return vr_model_fail(parser, value->line, error, "%s", must);
    resource->url = g_strdup(value->text);
    return TRUE;
}

static gboolean parse_time(VrModelParser *parser, const VrYamlNode *value, const VrModelKey *key, void *target,
                           GError **error)
{
    if (value->kind == VR_YAML_SCALAR && vr_expiry_parse_time(value->text, target))
        return TRUE;
    return vr_model_fail(parser, value->line, error, "must be a time with its zone, such as 2026-12-31T23:59:59Z");
}

/* --- what goes together ------------------------------------------------------------------------------ */

static gboolean given(const VrModelParser *parser, const char *key)
{
    g_autofree char *path = g_strconcat(parser->path->str, ".", key, NULL);

    return vr_model_line(parser, path) != 0;
}

/* The path of the item is the parser's. */
static gboolean check_kinds(VrModelParser *parser, const VrModelResource *resource, GError **error)
{
    static const char *const kinds[] = {"url", "file", "certificate", "token"};
    guint count = 0;

    for (guint i = 0; i < G_N_ELEMENTS(kinds); i++)
        count += given(parser, kinds[i]) ? 1 : 0;
    if (count != 1)
        return vr_model_fail(parser, resource->line, error, "must have one of url, file, certificate and token");
    if (given(parser, "url") && resource->url == NULL && resource->url_file == NULL)
        return vr_model_fail(parser, resource->line, error, "file is missing in url");
    if (given(parser, "token") && resource->token_file == NULL && resource->token_until_us == 0)
        return vr_model_fail(parser, resource->line, error, "token must have a file, expiresAt or both");
    if (given(parser, "headers") && resource->headers_file == NULL)
        return vr_model_fail(parser, resource->line, error, "file is missing in headers");
    if (given(parser, "file") && given(parser, "validFor"))
        return vr_model_fail(parser, resource->line, error, "validFor does not go with a file");
    return TRUE;
}

static gboolean check_url_keys(VrModelParser *parser, const VrModelResource *resource, GError **error)
{
    static const char *const of_url[] = {"method", "headers", "expect", "caFile", "from"};

    for (guint i = 0; i < G_N_ELEMENTS(of_url); i++) {
        if (given(parser, of_url[i]) && !given(parser, "url"))
            return vr_model_fail(parser, resource->line, error, "%s goes with url", of_url[i]);
    }
    if (resource->headers_file != NULL && resource->url != NULL &&
        g_ascii_strncasecmp(resource->url, "https:", strlen("https:")) != 0)
        return vr_model_fail(parser, resource->line, error,
                             "headers go with https: over http anybody on the way could read them");
    return TRUE;
}

/* In a guest the words of a command are seen by everybody, and files of this host are not there. */
static gboolean check_guest(VrModelParser *parser, const VrModelResource *resource, GError **error)
{
    static const char *const not_there[] = {"headers", "caFile", "validFor"};

    for (guint i = 0; i < G_N_ELEMENTS(not_there) && resource->from_guest; i++) {
        if (given(parser, not_there[i]))
            return vr_model_fail(parser, resource->line, error, "%s does not go with from: guest", not_there[i]);
    }
    if (resource->from_guest && (resource->url == NULL || strchr(resource->url, '?') != NULL))
        return vr_model_fail(
            parser, resource->line, error,
            "from: guest needs a url that stands here and has no query: its guest shows it to everybody");
    return TRUE;
}

/* --- the list ---------------------------------------------------------------------------------------- */

static void resource_free(VrModelResource *resource)
{
    g_free(resource->url);
    g_free(resource->url_file);
    g_free(resource->headers_file);
    g_free(resource->ca_file);
    g_free(resource->file);
    g_free(resource->certificate);
    g_free(resource->token_file);
    g_free(resource);
}

GPtrArray *vr_model_outside_new(void)
{
    return g_ptr_array_new_with_free_func((GDestroyNotify)resource_free);
}

static gboolean parse_resource(VrModelParser *parser, const VrYamlNode *item, guint index, GPtrArray *resources,
                               GError **error)
{
    gsize length = parser->path->len;
    VrModelResource *resource = g_new0(VrModelResource, 1);

    g_ptr_array_add(resources, resource);
    resource->line = item->line;
    resource->valid_for_ms = -1;
    g_string_append_printf(parser->path, "[%u]", index);
    if (!vr_model_keys(parser, item, vr_model_outside_keys, resource, error) || !check_kinds(parser, resource, error) ||
        !check_url_keys(parser, resource, error) || !check_guest(parser, resource, error))
        return FALSE;
    g_string_truncate(parser->path, length);
    return TRUE;
}

gboolean vr_model_outside(VrModelParser *parser, const VrYamlNode *value, const VrModelKey *key, void *target,
                          GError **error)
{
    GPtrArray *resources = *(GPtrArray **)target;

    if (value->kind != VR_YAML_LIST || value->values->len > VR_RESOURCES_MAX)
        return vr_model_fail(parser, value->line, error, "must be a list of at most %d resources", VR_RESOURCES_MAX);
    for (guint i = 0; i < value->values->len; i++) {
        if (!parse_resource(parser, value->values->pdata[i], i, resources, error))
            return FALSE;
    }
    return TRUE;
}

/* --- as a text --------------------------------------------------------------------------------------- */

static void append_url(GString *text, const VrModelResource *resource)
{
    g_autofree char *shown = resource->url != NULL ? vr_url_shown(resource->url) : NULL;

    if (shown != NULL)
        g_string_append_printf(text, "url %s", shown);
    else
        g_string_append_printf(text, "url in %s", resource->url_file);
    if (resource->get)
        g_string_append(text, " by GET");
    if (resource->expect > 0)
        g_string_append_printf(text, " answers %u", resource->expect);
    if (resource->headers_file != NULL)
        g_string_append_printf(text, " with %s", resource->headers_file);
    if (resource->ca_file != NULL)
        g_string_append_printf(text, " signed by %s", resource->ca_file);
    if (resource->from_guest)
        g_string_append(text, " from guest");
}

static void append_token(GString *text, const VrModelResource *resource)
{
    g_string_append_printf(text, "token%s%s", resource->token_file != NULL ? " " : "",
                           resource->token_file != NULL ? resource->token_file : "");
    if (resource->token_until_us > 0) {
        g_autofree char *until = vr_clock_format(resource->token_until_us);
        g_string_append_printf(text, " until %s", until);
    }
}

static void append_resource(GString *text, const VrModelResource *resource)
{
    if (resource->file != NULL)
        g_string_append_printf(text, "file %s", resource->file);
    else if (resource->certificate != NULL)
        g_string_append_printf(text, "certificate %s", resource->certificate);
    else if (resource->token_file != NULL || resource->token_until_us > 0)
        append_token(text, resource);
    else
        append_url(text, resource);
    if (resource->valid_for_ms >= 0) {
        g_autofree char *span = vr_clock_format_duration(resource->valid_for_ms);
        g_string_append_printf(text, " for %s", span);
    }
}

char *vr_model_outside_text(const GPtrArray *resources)
{
    g_autoptr(GString) text = g_string_new(NULL);

    for (guint i = 0; i < resources->len; i++) {
        g_string_append(text, i > 0 ? ", " : "");
        append_resource(text, resources->pdata[i]);
    }
    return resources->len > 0 ? g_strdup(text->str) : NULL;
}
