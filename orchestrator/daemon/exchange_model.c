/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * PUT and PATCH of a set: set-define with the body, or with what set-dump prints and the body is merged into. What upgradePolicy.mode
 * then asks for is a run that goes on by itself, so it is begun by a job of its own (apply --all --detach), and the answer is 202.
 *
 * One PATCH a set at a time, and set-define is told which text was merged into (--replaces): somebody else's edit is never lost.
 */
#include "orchestrator/daemon/exchange.h"

#include "base/error.h"
#include "orchestrator/daemon/model_merge.h"
#include "orchestrator/daemon/route_words.h"
#include "orchestrator/model_json.h"

#include <stdlib.h>

#define MODEL_MAX (4 * 1024 * 1024) /* as set-define takes it */
#define ANSWER_MAX (1024 * 1024)
#define EDITED "the set is defined, and its instances are not brought to the model: "

static void on_begun(VrExchange *exchange, VrJobOutput *output)
{
    g_autofree char *set = g_uri_escape_string(vr_route_value(&exchange->match, "set"), NULL, FALSE);

    if (!vr_exchange_check(exchange, output, EDITED))
        return;
    exchange->location = g_strdup_printf("/virtualMachineScaleSets/%s/rollingUpgrades/latest", set);
    vr_exchange_settle(exchange, MHD_HTTP_ACCEPTED);
}

static void on_defined(VrExchange *exchange, VrJobOutput *output)
{
    const char *set = vr_route_value(&exchange->match, "set");
    const char *apply[] = {"--json", "apply", "--detach", "--all", "--", set, NULL};
    g_autofree char *text = NULL;

    if (!vr_exchange_check(exchange, output, NULL))
        return;
    text = vr_exchange_read(output, ANSWER_MAX);
    exchange->document = text ? json_loads(text, JSON_DISABLE_EOF_CHECK, NULL) : NULL;
    if (exchange->rolls && json_array_size(json_object_get(exchange->document, "behind")) > 0)
        vr_exchange_run(exchange, apply, NULL, on_begun);
    else
        vr_exchange_settle(exchange, MHD_HTTP_OK);
}

/* The words of set-define, which come as --json set-define OPTION... -- ARGUMENT. replaces: the text that the model was made of, or NULL. */
static char **words_of(const VrExchange *exchange, const char *replaces, GError **error)
{
    g_auto(GStrv) words = vr_route_words(&exchange->match, exchange->query, NULL, error);
    g_autofree char *digest = replaces ? g_compute_checksum_for_string(G_CHECKSUM_SHA256, replaces, -1) : NULL;
    g_autoptr(GStrvBuilder) all = g_strv_builder_new();

    if (!words)
        return NULL;
    for (guint i = 0; words[i]; i++) {
        g_strv_builder_add(all, words[i]);
        if (i == 1 && digest)
            g_strv_builder_add_many(all, "--replaces", digest, NULL);
    }
    return g_strv_builder_end(all);
}

/* model is borrowed; replaces as above. */
static void define(VrExchange *exchange, json_t *model, const char *replaces)
{
    g_autoptr(GError) error = NULL;
    g_auto(GStrv) words = NULL;
    const char *no_apply = g_hash_table_lookup(exchange->query, "noApply");
    char *text = NULL;

    words = words_of(exchange, replaces, &error);
    if (words && vr_model_set_name(model, vr_route_value(&exchange->match, "set"), &error)) {
        exchange->rolls = vr_model_rolls(model) && (!no_apply || g_ascii_strcasecmp(no_apply, "true") != 0);
        text = json_dumps(model, JSON_INDENT(2));
        vr_exchange_run(exchange, (const char *const *)words, text, on_defined);
        free(text);
    } else {
        vr_exchange_fail_error(exchange, error);
    }
}

void vr_exchange_put(VrExchange *exchange)
{
    define(exchange, exchange->body, NULL);
}

static void on_dumped(VrExchange *exchange, VrJobOutput *output)
{
    g_autoptr(GError) error = NULL;
    g_autofree char *text = NULL;
    json_auto_t *model = NULL;

    if (!vr_exchange_check(exchange, output, NULL))
        return;
    text = vr_exchange_read(output, MODEL_MAX);
    if (!text) {
        vr_exchange_fail(exchange, MHD_HTTP_INTERNAL_SERVER_ERROR, VR_ERROR_INVALID,
                         "the model that the set has cannot be read");
        return;
    }
    model = vr_model_to_json(text, output->out_size, &error);
    if (!model) {
        vr_exchange_fail_error(exchange, error);
        return;
    }
    vr_json_merge(model, exchange->body);
    define(exchange, model, text);
}

void vr_exchange_patch(VrExchange *exchange)
{
    const char *set = vr_route_value(&exchange->match, "set");
    const char *dump[] = {"set-dump", "--", set, NULL};

    if (!g_hash_table_add(exchange->patching, g_strdup(set))) {
        vr_exchange_fail(exchange, MHD_HTTP_CONFLICT, VR_ERROR_BUSY,
                         "another PATCH of this set is under way; try again when it is done");
        return;
    }
    exchange->patched = g_strdup(set);
    vr_exchange_run(exchange, dump, NULL, on_dumped);
}
