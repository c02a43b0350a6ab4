/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * --print-diff: what each swap would change in its domain's configuration. The texts are the engine's own (engine/swap_preview.h), so what is shown is
 * what will be defined, but for what is not known before: the UUID of the swap, and what libvirt adds by itself to a device that is new (the seed's CD-ROM).
 */
#include "base/error.h"
#include "engine/swap_preview.h"
#include "orchestrator/cli/output.h"
#include "orchestrator/cli/plan_private.h"
#include "orchestrator/cli/text_diff.h"
#include "orchestrator/live/screen.h"
#include "orchestrator/live/term.h"

#include <stdio.h>
#include <unistd.h>

typedef struct {
    guint index;
    guint generation; /* 0: it could not be told */
    char *text;       /* NULL: why not */
    char *why;
} Diff;

static void diff_free(gpointer data)
{
    Diff *diff = data;

    g_free(diff->text);
    g_free(diff->why);
    g_free(diff);
}

/* --- making them ------------------------------------------------------------------------------------- */

static char *label_after(const VrPlan *plan, guint index, guint generation)
{
    const char *domain = vr_set_instance(plan->session->set, index)->domain;
    const VrImage *image = vr_targets_image(plan->targets, index);
    g_autoptr(VrGeneration) back = image ? NULL : vr_targets_back_to(plan->targets, plan->session, index);
    const char *name = image ? image->name : back ? back->image : NULL;
    const char *version = image ? image->version : back ? back->version : NULL;

    return g_strdup_printf("%s (generation %u%s%s%s%s)", domain, generation, name ? ", " : "", name ? name : "",
                           version ? " " : "", version ? version : "");
}

static char *diff_of(const VrPlan *plan, guint index, guint *generation, GError **error)
{
    const VrSession *session = plan->session;
    const VrInstance *instance = vr_set_instance(session->set, index);
    g_autoptr(VrGeneration) back = vr_targets_back_to(plan->targets, session, index);
    const VrPreviewRequest request = {.set_name = session->set->name,
                                      .uuid = instance->uuid,
                                      .os_target = session->set->model->os_target,
                                      .image = vr_targets_image(plan->targets, index),
                                      .to_generation = back ? back->number : 0,
                                      .full_clone = vr_plan_is_full(plan),
                                      .seed = vr_plan_has_seeds(plan)};
    g_auto(VrPreview) preview = {0};
    g_autofree char *before = g_strdup_printf("%s (now)", instance->domain);
    g_autofree char *after = NULL;

    if (!vr_swap_preview(session->store, session->hv, session->journal, &request, &preview, error))
        return NULL;
    *generation = preview.generation;
    after = label_after(plan, index, preview.generation);
    return vr_text_diff(preview.before, preview.after, before, after, error);
}

static void add_diff(VrPlan *plan, guint index)
{
    Diff *diff = g_new0(Diff, 1);
    g_autoptr(GError) local = NULL;

    diff->index = index;
    diff->text = diff_of(plan, index, &diff->generation, &local);
    if (!diff->text)
        diff->why = vr_error_what(local);
    g_ptr_array_add(plan->diffs, diff);
}

/* In the order of the run; those that something keeps back come last. */
void vr_plan_make_diffs(VrPlan *plan)
{
    g_autofree gboolean *seen = g_new0(gboolean, plan->targets->count);

    if (!plan->session->cli->options.print_diff)
        return;
    plan->diffs = g_ptr_array_new_with_free_func(diff_free);
    for (guint i = 0; i < plan->batches->len; i++) {
        const VrBatch *batch = g_ptr_array_index(plan->batches, i);
        for (guint k = 0; k < batch->members->len; k++) {
            guint index = g_array_index(batch->members, guint, k);
            seen[index] = TRUE;
            add_diff(plan, index);
        }
    }
    for (guint i = 0; i < plan->targets->count; i++)
        if (plan->targets->targets[i].chosen && !seen[i])
            add_diff(plan, i);
}

/* --- JSON -------------------------------------------------------------------------------------------- */

json_t *vr_plan_diffs_json(const VrPlan *plan)
{
    json_t *list;

    if (!plan->diffs)
        return json_null();
    list = json_array();
    for (guint i = 0; i < plan->diffs->len; i++) {
        const Diff *diff = g_ptr_array_index(plan->diffs, i);
        const VrInstance *instance = vr_set_instance(plan->session->set, diff->index);
        json_array_append_new(list, json_pack("{s:o, s:s, s:o, s:o, s:o}", "domain", vr_json_text(instance->domain),
                                              "uuid", instance->uuid, "generation",
                                              diff->text ? json_integer(diff->generation) : json_null(), "diff",
                                              vr_json_text(diff->text), "reason", vr_json_text(diff->why)));
    }
    return list;
}

/* --- lines ------------------------------------------------------------------------------------------- */

typedef struct {
    char *plain, *file, *hunk, *out, *in; /* sequences of the terminal; "" where there are none */
} Looks;

static char *colour(int number)
{
    GString *text = g_string_new(NULL);

    vr_term_add_number(text, "setaf", number);
    return g_string_free(text, FALSE);
}

static char *capability(const char *name)
{
    GString *text = g_string_new(NULL);

    vr_term_add(text, name);
    return g_string_free(text, FALSE);
}

static void looks_clear(Looks *looks)
{
    g_free(looks->plain);
    g_free(looks->file);
    g_free(looks->hunk);
    g_free(looks->out);
    g_free(looks->in);
}
G_DEFINE_AUTO_CLEANUP_CLEAR_FUNC(Looks, looks_clear)

static void looks_set_up(Looks *looks)
{
    if (!vr_screen_has_colours(STDOUT_FILENO)) {
        *looks = (Looks){g_strdup(""), g_strdup(""), g_strdup(""), g_strdup(""), g_strdup("")};
        return;
    }
    *looks = (Looks){capability("sgr0"), capability("bold"), colour(6), colour(1), colour(2)};
}

static const char *look_of(const Looks *looks, const char *line, gboolean head)
{
    if (head)
        return looks->file;
    return *line == '@' ? looks->hunk : *line == '-' ? looks->out : *line == '+' ? looks->in : NULL;
}

static void print_diff(const Looks *looks, const char *text)
{
    g_auto(GStrv) lines = g_strsplit(text, "\n", -1);

    for (guint i = 0; lines[i] && (*lines[i] || lines[i + 1]); i++) {
        g_autofree char *shown = vr_printable(lines[i], -1);
        const char *look = look_of(looks, lines[i], i < 2);
        printf("%s%s%s\n", look ? look : "", shown, look ? looks->plain : "");
    }
}

static void say_what_is_open(const VrPlan *plan)
{
    vr_say(plan->session->cli, "%s", "");
    vr_say(plan->session->cli, "not known before: what stands for %s%s", VR_PREVIEW_SWAP_ID,
           vr_plan_has_seeds(plan) ? ", and what libvirt gives to a drive that is new: an address, a controller" : "");
}

void vr_plan_print_diffs(const VrPlan *plan)
{
    g_auto(Looks) looks = {0};

    looks_set_up(&looks);
    for (guint i = 0; plan->diffs && i < plan->diffs->len; i++) {
        const Diff *diff = g_ptr_array_index(plan->diffs, i);
        const char *domain = vr_set_instance(plan->session->set, diff->index)->domain;

        vr_say(plan->session->cli, "%s", "");
        if (!diff->text)
            vr_say(plan->session->cli, "no difference to show of %s: %s", domain, diff->why);
        else if (!*diff->text)
            vr_say(plan->session->cli, "%s: its configuration stays as it is", domain);
        else
            print_diff(&looks, diff->text);
    }
    if (plan->diffs && plan->diffs->len > 0)
        say_what_is_open(plan);
}
