/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "orchestrator/daemon/route_table.h"

#include <string.h>

#define SET "/virtualMachineScaleSets/{set}"
#define ROLL "rollingUpgrades/"
#define RUN_FIELDS "noAutoRollback ignore reason"

const VrRoute vr_routes[] = {
    {"GET", "/", VR_ROUTE_ABOUT, TRUE, NULL, ""},
    {"POST", "/commands", VR_ROUTE_COMMANDS, TRUE, NULL, ""},

    {"GET", "/virtualMachineScaleSets", VR_ROUTE_DOCUMENT, TRUE, "set-list", ""},
    {"GET", SET, VR_ROUTE_DOCUMENT, TRUE, "set-info {set}", ""},
    {"PUT", SET, VR_ROUTE_PUT, FALSE, "set-define --no-apply -", "reason noApply"},
    {"PATCH", SET, VR_ROUTE_PATCH, FALSE, "set-define --no-apply -", "reason noApply"},
    {"DELETE", SET, VR_ROUTE_DOCUMENT, FALSE, "set-undefine {set}", ""},
    {"GET", SET "/instanceView", VR_ROUTE_DOCUMENT, TRUE, "status {set}", ""},
    {"GET", SET "/plan", VR_ROUTE_DOCUMENT, TRUE, "plan {set}", "version role ignore printDiff"},
    {"GET", SET "/osUpgradeHistory", VR_ROUTE_DOCUMENT, TRUE, "history --azure {set}", ""},
    {"GET", SET "/history", VR_ROUTE_DOCUMENT, TRUE, "history {set}", "run"},

    {"POST", SET "/osRollingUpgrade", VR_ROUTE_LONG, FALSE, "upgrade --detach {set}",
     "version role canary walk replace " RUN_FIELDS},
    {"POST", SET "/reimage", VR_ROUTE_LONG, FALSE, "reimage --detach {set} {instances}",
     "instanceIds exactVersion tempDisk " RUN_FIELDS},
    {"POST", SET "/reimageall", VR_ROUTE_LONG, FALSE, "reimage --detach --temp-disk {set} {instances}",
     "instanceIds " RUN_FIELDS},
    {"POST", SET "/manualupgrade", VR_ROUTE_LONG, FALSE, "apply --detach {set} {instances}", "instanceIds " RUN_FIELDS},
    {"POST", SET "/rollback", VR_ROUTE_LONG, FALSE, "rollback --detach {set} {instances}",
     "instanceIds toGeneration run " RUN_FIELDS},
    {"POST", SET "/retry", VR_ROUTE_LONG, FALSE, "retry --detach {set}", RUN_FIELDS},
    {"POST", SET "/auto", VR_ROUTE_LINES, FALSE, "set-auto {set} {automatic}", "automatic"},
    {"POST", SET "/recover", VR_ROUTE_LINES, FALSE, "recover {set}", ""},

    {"GET", SET "/" ROLL "latest", VR_ROUTE_DOCUMENT, TRUE, "status {set}", ""},
    {"POST", SET "/" ROLL "cancel", VR_ROUTE_DOCUMENT, FALSE, "cancel {set}", "now"},
    {"POST", SET "/" ROLL "pause", VR_ROUTE_DOCUMENT, FALSE, "pause {set}", ""},
    {"POST", SET "/" ROLL "resume", VR_ROUTE_DOCUMENT, FALSE, "resume {set}", ""},
    {"POST", SET "/" ROLL "promote", VR_ROUTE_DOCUMENT, FALSE, "promote {set}", ""},
    {"POST", SET "/" ROLL "approve", VR_ROUTE_DOCUMENT, FALSE, "approve {set}", ""},
    {"POST", SET "/" ROLL "walk", VR_ROUTE_DOCUMENT, FALSE, "walk {set} {upgradeDomain}", "upgradeDomain"},

    {"POST", SET "/protect", VR_ROUTE_LINES, FALSE, "protect {set} {instances}", "instanceIds reason"},
    {"POST", SET "/unprotect", VR_ROUTE_LINES, FALSE, "unprotect {set} {instances}", "instanceIds"},
    {"GET", SET "/triggers", VR_ROUTE_DOCUMENT, TRUE, "triggers {set}", ""},
    {"GET", SET "/notices", VR_ROUTE_DOCUMENT, FALSE, "notices {set}", ""},
    {"GET", SET "/virtualMachines", VR_ROUTE_DOCUMENT, TRUE, "status {set}", ""},
    {"GET", SET "/virtualMachines/{instance}", VR_ROUTE_DOCUMENT, TRUE, "instance-view {set} {instance}", ""},
    {"GET", SET "/virtualMachines/{instance}/instanceView", VR_ROUTE_DOCUMENT, TRUE, "instance-view {set} {instance}",
     ""},
    {"GET", SET "/virtualMachines/{instance}/generations", VR_ROUTE_DOCUMENT, TRUE, "generations {set} {instance}", ""},
    {"POST", SET "/virtualMachines/{instance}/adopt", VR_ROUTE_LINES, FALSE, "adopt {set} {instance}", "version"},
    {"POST", SET "/virtualMachines/{instance}/release", VR_ROUTE_DOCUMENT, FALSE, "release {set} {instance}", "ignore"},

    {"GET", "/publishers/{publisher}/artifacttypes/vmimage/offers/{offer}/skus/{sku}/versions", VR_ROUTE_DOCUMENT, TRUE,
     "image-list --publisher={publisher} --offer={offer} --sku={sku}", ""},
    {"GET", "/images", VR_ROUTE_DOCUMENT, TRUE, "image-list", ""},
    {"GET", "/images/{image}/versions", VR_ROUTE_DOCUMENT, TRUE, "image-list {image}", ""},
    {"GET", "/images/{image}/versions/{version}", VR_ROUTE_DOCUMENT, TRUE, "image-info {image} {version}", ""},
    {"DELETE", "/images/{image}/versions/{version}", VR_ROUTE_LINES, FALSE, "image-delete {image} {version}", ""},
    {"POST", "/images/{image}/versions/{version}/exclude", VR_ROUTE_LINES, FALSE, "image-exclude {image} {version}",
     "reason"},
    {"POST", "/images/{image}/versions/{version}/include", VR_ROUTE_LINES, FALSE, "image-include {image} {version}",
     ""},

    {"GET", "/triggers", VR_ROUTE_DOCUMENT, TRUE, "triggers", ""},
    {"GET", "/metrics", VR_ROUTE_TEXT, TRUE, "metrics", ""},
    {"GET", "/notices", VR_ROUTE_DOCUMENT, FALSE, "notices", ""},
    {NULL}};

static const VrRouteField fields[] = {
    {"version", VR_FIELD_TEXT, "--version"},
    {"exactVersion", VR_FIELD_TEXT, "--version"},
    {"role", VR_FIELD_TEXT, "--role"},
    {"reason", VR_FIELD_TEXT, "--reason"},
    {"run", VR_FIELD_TEXT, "--run"},
    {"toGeneration", VR_FIELD_NUMBER, "--to-generation"},
    {"walk", VR_FIELD_FLAG, "--walk"},
    {"replace", VR_FIELD_FLAG, "--replace"},
    {"now", VR_FIELD_FLAG, "--now"},
    {"tempDisk", VR_FIELD_FLAG, "--temp-disk"},
    {"noAutoRollback", VR_FIELD_FLAG, "--no-auto-rollback"},
    {"noApply", VR_FIELD_FLAG, "--no-apply"},
    {"printDiff", VR_FIELD_FLAG, "--print-diff"},
    {"canary", VR_FIELD_LIST, "--canary"},
    {"ignore", VR_FIELD_LIST, "--ignore"},
    {"upgradeDomain", VR_FIELD_ARGUMENT, NULL},
    {"automatic", VR_FIELD_WORD, NULL},
    {"instanceIds", VR_FIELD_INSTANCES, NULL},
};

const char *const vr_route_api_versions[] = {"2018-10-01", "2019-03-01", "2019-07-01", "2019-12-01", "2020-06-01",
                                             "2020-12-01", "2021-03-01", "2021-04-01", "2021-07-01", "2021-11-01",
                                             "2022-03-01", "2022-08-01", "2022-11-01", "2023-03-01", "2023-07-01",
                                             "2023-09-01", "2024-03-01", "2024-07-01", NULL};

const VrRouteField *vr_route_field(const char *name)
{
    for (guint i = 0; i < G_N_ELEMENTS(fields); i++)
        if (g_str_equal(fields[i].name, name))
            return &fields[i];
    return NULL;
}

gboolean vr_route_takes(const VrRoute *route, const char *name)
{
    g_auto(GStrv) names = g_strsplit(route->fields, " ", -1);

    return g_strv_contains((const char *const *)names, name);
}

/* ---- matching ---- */

static gboolean is_part(char **parts, guint n_parts, guint i, const char *word)
{
    return i < n_parts && g_ascii_strcasecmp(parts[i], word) == 0;
}

/* How many parts are what Azure has before its own: /subscriptions/S[/resourceGroups/G]/providers/Microsoft.Compute[/locations/L]. parts[0] is the
 * empty one before the first slash. */
static guint prefix_of(char **parts, guint n_parts)
{
    guint i = 1;

    if (!is_part(parts, n_parts, i, "subscriptions"))
        return 0;
    i += 2;
    if (is_part(parts, n_parts, i, "resourceGroups"))
        i += 2;
    if (!is_part(parts, n_parts, i, "providers") || !is_part(parts, n_parts, i + 1, "Microsoft.Compute"))
        return 0;
    i += 2;
    if (is_part(parts, n_parts, i, "locations"))
        i += 2;
    return MIN(i, n_parts) - 1;
}

/* FALSE: not a name at all. NULL bytes and what is no UTF-8 match nothing. */
static gboolean take_value(VrRouteMatch *match, const char *pattern, const char *part)
{
    g_autofree char *value = g_uri_unescape_string(part, NULL);

    if (!value || !*value || !g_utf8_validate(value, -1, NULL) || match->n_values == VR_ROUTE_VALUES_MAX)
        return FALSE;
    match->names[match->n_values] = g_strndup(pattern + 1, strlen(pattern) - 2);
    match->values[match->n_values++] = g_steal_pointer(&value);
    return TRUE;
}

static gboolean matches(char **pattern, char **parts, VrRouteMatch *match)
{
    for (; *pattern && *parts; pattern++, parts++)
        if (**pattern == '{' ? !take_value(match, *pattern, *parts) : g_ascii_strcasecmp(*pattern, *parts) != 0)
            return FALSE;
    return !*pattern && !*parts;
}

void vr_route_match(const char *method, const char *path, VrRouteMatch *match)
{
    g_auto(GStrv) parts = g_strsplit(path, "/", -1);
    guint n_parts = g_strv_length(parts), prefix = prefix_of(parts, n_parts);

    *match = (VrRouteMatch){0};
    if (n_parts < 2 || *parts[0])
        return;
    for (const VrRoute *route = vr_routes; route->method && !match->route; route++) {
        g_auto(GStrv) pattern = g_strsplit(route->path, "/", -1);
        if (!matches(pattern + 1, parts + 1 + prefix, match)) {
            vr_route_match_clear(match);
        } else if (g_str_equal(method, route->method)) {
            match->route = route;
        } else {
            vr_route_match_clear(match);
            match->path_known = TRUE;
        }
    }
    if (match->route)
        match->path_known = TRUE;
}

char *vr_route_methods(const char *path)
{
    static const char *const methods[] = {"GET", "PUT", "PATCH", "DELETE", "POST"};
    g_autoptr(GString) text = g_string_new(NULL);

    for (guint i = 0; i < G_N_ELEMENTS(methods); i++) {
        g_auto(VrRouteMatch) match;

        vr_route_match(methods[i], path, &match);
        if (match.route)
            g_string_append_printf(text, "%s%s", text->len ? ", " : "", methods[i]);
    }
    return g_string_free(g_steal_pointer(&text), FALSE);
}

const char *vr_route_value(const VrRouteMatch *match, const char *name)
{
    for (guint i = 0; i < match->n_values; i++)
        if (g_str_equal(match->names[i], name))
            return match->values[i];
    return NULL;
}

/* Keeps what is known of the path. */
void vr_route_match_clear(VrRouteMatch *match)
{
    for (guint i = 0; i < match->n_values; i++) {
        g_clear_pointer(&match->names[i], g_free);
        g_clear_pointer(&match->values[i], g_free);
    }
    match->n_values = 0;
}
