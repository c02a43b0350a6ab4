/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "orchestrator/outside_private.h"

#include "base/clock.h"
#include "base/error.h"
#include "base/fd.h"
#include "disk/small_file.h"
#include "orchestrator/certificate.h"
#include "orchestrator/expiry.h"

#include <errno.h>
#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#define LEAST_MS 3600000 /* where neither the model nor an earlier run says how long a run takes */
#define PEM_MAX (4 * 1024 * 1024)
#define RENEW "renew it, and begin again"

/* --- the list ---------------------------------------------------------------------------------------- */

static void thing_free(VrThing *thing)
{
    g_free(thing->key);
    g_free(thing->path);
    g_free(thing);
}

/* Takes key. */
static void add(VrOutside *outside, VrThingKind kind, char *key, const char *path, const VrModelResource *resource)
{
    VrThing *thing = g_new0(VrThing, 1);

    *thing = (VrThing){.kind = kind, .key = key, .path = g_strdup(path), .resource = resource};
    g_ptr_array_add(outside->things, thing);
}

void vr_outside_add_file(VrOutside *outside, const char *key, const char *path)
{
    add(outside, VR_THING_FILE, g_strdup(key), path, NULL);
}

void vr_outside_add_program(VrOutside *outside, const char *key, const char *path)
{
    add(outside, VR_THING_PROGRAM, g_strdup(key), path, NULL);
}

static void add_resource(VrOutside *outside, guint index, const VrModelResource *resource)
{
    char *key = g_strdup_printf("externalResources[%u]", index);

    if (resource->ca_file)
        add(outside, VR_THING_AUTHORITIES, g_strconcat(key, ".caFile", NULL), resource->ca_file, NULL);
    if (resource->file)
        add(outside, VR_THING_FILE, key, resource->file, resource);
    else if (resource->certificate)
        add(outside, VR_THING_CERTIFICATE, key, resource->certificate, resource);
    else if (resource->token_file || resource->token_until_us > 0)
        add(outside, VR_THING_TOKEN, key, resource->token_file, resource);
    else
        add(outside, VR_THING_URL, key, NULL, resource);
}

VrOutside *vr_outside_new(const VrModel *model)
{
    VrOutside *outside = g_new0(VrOutside, 1);

    outside->model = model;
    outside->things = g_ptr_array_new_with_free_func((GDestroyNotify)thing_free);
    outside->passed = g_ptr_array_new_with_free_func(g_free);
    if (model->health.ca_file)
        add(outside, VR_THING_AUTHORITIES, g_strdup("healthProfile.applicationHealth.caFile"), model->health.ca_file,
            NULL);
    if (model->policy.gate)
        vr_outside_add_program(outside, "upgradePolicy.gate", model->policy.gate[0]);
    for (guint i = 0; i < model->outside->len; i++)
        add_resource(outside, i, model->outside->pdata[i]);
    return outside;
}

void vr_outside_free(VrOutside *outside)
{
    if (!outside)
        return;
    g_ptr_array_unref(outside->things);
    g_ptr_array_unref(outside->passed);
    g_free(outside);
}

/* --- times ------------------------------------------------------------------------------------------- */

/* At most, where all are left and healthy. */
static guint batch_size(const VrModel *model)
{
    guint count = model->instances->len, parts = model->upgrade_domain_count;

    return model->policy.by_domain ? (count + parts - 1) / parts : (count * model->policy.max_batch_percent + 99) / 100;
}

/* Without KVM a launch of an appliance for one disk may take twelve minutes (disk/personalize.h), a reading through an agent two; four guests of a
 * batch have theirs at a time (engine/swap_carry.c). */
static gint64 carry_ms(const VrModel *model)
{
    const VrCarryProfile *carry = &model->os_profile.carry;
    const gint64 launch_ms = 720000, reading_ms = 120000, turns = (batch_size(model) + 3) / 4;

    if (!carry->what[0])
        return 0;
    return turns * (carry->from_disk ? 2 * launch_ms : 4 * reading_ms + 3 * launch_ms);
}

gint64 vr_outside_batch_ms(const VrModel *model)
{
    const VrNoticeProfile *notice = &model->notice;
    gint64 ms = model->stop.timeout_ms + model->health.start_timeout_ms + model->health.timeout_ms + carry_ms(model);

    if (notice->enable)
        ms += notice->not_before_ms + (notice->busy_file || notice->busy_command ? notice->busy_limit_ms : 0);
    for (guint i = 0; i < model->extensions->len; i++)
        ms += ((const VrExtension *)g_ptr_array_index(model->extensions, i))->timeout_ms;
    return ms;
}

/* How long a run needs what the model says no time of. */
static gint64 run_ms(const VrModel *model, gint64 expected_ms)
{
    gint64 ms = MAX(expected_ms, LEAST_MS);

    return model->policy.timeout_ms > 0 ? MIN(ms, model->policy.timeout_ms) : ms;
}

gint64 vr_outside_due_us(const VrOutsideLook *look, const VrThing *thing)
{
    const VrModel *model = look->outside->model;
    gint64 ms = vr_outside_batch_ms(model);

    if (!look->question->border)
        ms =
            MAX(ms, thing->resource && thing->resource->valid_for_ms >= 0 ? thing->resource->valid_for_ms
                                                                          : run_ms(model, look->question->expected_ms));
    return look->now_us + ms * 1000;
}

void vr_outside_found(VrOutsideLook *look, const VrThing *thing, const char *id, char *text, const char *remedy)
{
    VrFinding *finding = vr_finding_new(id, g_strdup_printf("%s: %s", thing->key, text), g_strdup(remedy));

    vr_finding_offer(finding, look->question->ignored);
    g_ptr_array_add(look->findings, finding);
    g_free(text);
}

gboolean vr_outside_lasts(VrOutsideLook *look, const VrThing *thing, const char *what, gint64 until_us)
{
    gint64 due_us = vr_outside_due_us(look, thing);
    g_autofree char *until = vr_clock_format(until_us);
    g_autofree char *left = vr_clock_format_duration((until_us - look->now_us) / 1000);
    g_autofree char *needed = vr_clock_format_duration((due_us - look->now_us) / 1000);
    const char *why = look->question->border ? "the next batch may take" : "it must be good for";

    if (until_us >= due_us)
        return TRUE;
    vr_outside_found(look, thing, "outside-expires",
                     until_us <= look->now_us
                         ? g_strdup_printf("%s expired on %s", what, until)
                         : g_strdup_printf("%s expires on %s, in %s, and %s %s", what, until, left, why, needed),
                     RENEW);
    return FALSE;
}

/* --- what lies on this host -------------------------------------------------------------------------- */

static void not_there(VrOutsideLook *look, const VrThing *thing, const GError *why)
{
    vr_outside_found(look, thing, "outside-file", g_strdup(why->message),
                     "put it there so that this program can read it, or correct the model");
}

/* Of a program: may be run. */
static void look_at_file(VrOutsideLook *look, const VrThing *thing)
{
    vr_autofd fd = open(thing->path, O_RDONLY | O_NONBLOCK | O_NOCTTY | O_CLOEXEC);
    g_autoptr(GError) local = NULL;
    struct stat st;

    if (fd < 0 || fstat(fd, &st) < 0)
        vr_set_error_errno(&local, errno, "cannot open %s", thing->path);
    else if (!S_ISREG(st.st_mode))
        g_set_error(&local, VR_ERROR, VR_ERROR_INVALID, "%s is no regular file", thing->path);
    else if (thing->kind == VR_THING_PROGRAM && access(thing->path, X_OK) < 0)
        vr_set_error_errno(&local, errno, "%s cannot be run", thing->path);
    if (local)
        not_there(look, thing, local);
}

/* NULL, with a finding: it cannot be read. */
static GPtrArray *read_certificates(VrOutsideLook *look, const VrThing *thing)
{
    g_autoptr(GError) local = NULL;
    g_autofree char *pem = vr_small_file_open(thing->path, PEM_MAX, &local);
    GPtrArray *all = pem ? vr_certificates_parse(pem, &local) : NULL;

    if (pem && !all)
        g_prefix_error(&local, "%s: ", thing->path);
    if (!all)
        not_there(look, thing, local);
    return all;
}

static void look_at_certificate(VrOutsideLook *look, const VrThing *thing)
{
    g_autoptr(GPtrArray) all = read_certificates(look, thing);

    for (guint i = 0; all && i < all->len; i++) {
        const VrCertificate *one = all->pdata[i];
        g_autofree char *what = g_strdup_printf("the certificate of '%s' in %s", one->name, thing->path);
        g_autofree char *from = vr_clock_format(one->from_us);
        if (one->from_us > look->now_us)
            vr_outside_found(look, thing, "outside-expires", g_strdup_printf("%s is not valid before %s", what, from),
                             "wait until then, or put another one there; see that the clock of this host is right");
        else
            (void)vr_outside_lasts(look, thing, what, one->until_us);
    }
}

/* A list of authorities has old ones among them: the last one to end counts. */
static void look_at_authorities(VrOutsideLook *look, const VrThing *thing)
{
    g_autoptr(GPtrArray) all = read_certificates(look, thing);
    const VrCertificate *last = NULL;

    for (guint i = 0; all && i < all->len; i++) {
        const VrCertificate *one = all->pdata[i];
        if (!last || one->until_us > last->until_us)
            last = one;
    }
    if (!last)
        return;
    g_autofree char *what = g_strdup_printf("the last authority in %s, '%s',", thing->path, last->name);
    (void)vr_outside_lasts(look, thing, what, last->until_us);
}

static void look_at_token(VrOutsideLook *look, const VrThing *thing)
{
    g_autoptr(GError) local = NULL;
    g_autofree char *text = thing->path ? vr_small_file_open(thing->path, VR_TOKEN_MAX, &local) : NULL;
    g_autofree char *what = g_strconcat("the token", thing->path ? " in " : NULL, thing->path, NULL);
    gint64 until_us = thing->resource->token_until_us;

    if (local) {
        not_there(look, thing, local);
        return;
    }
    if (text && until_us == 0 && !vr_expiry_of_token(text, &until_us)) {
        vr_outside_found(look, thing, "outside-expires", g_strdup_printf("%s does not say until when it is good", what),
                         "give expiresAt beside the file: only the exp of a JSON Web Token and the se of a shared "
                         "access signature are read");
        return;
    }
    (void)vr_outside_lasts(look, thing, what, until_us);
}

const GPtrArray *vr_outside_passed(const VrOutside *outside)
{
    return outside->passed;
}

static void note_passed(VrOutside *outside, const GPtrArray *findings)
{
    g_ptr_array_set_size(outside->passed, 0);
    for (guint i = 0; i < findings->len; i++) {
        const VrFinding *finding = findings->pdata[i];
        if (finding->ignored)
            g_ptr_array_add(outside->passed, g_strdup_printf("%s [%s]", finding->text, finding->id));
    }
}

GPtrArray *vr_outside_check(VrOutside *outside, const VrOutsideQuestion *question)
{
    static void (*const lookers[])(VrOutsideLook *, const VrThing *) = {[VR_THING_FILE] = look_at_file,
                                                                        [VR_THING_PROGRAM] = look_at_file,
                                                                        [VR_THING_AUTHORITIES] = look_at_authorities,
                                                                        [VR_THING_CERTIFICATE] = look_at_certificate,
                                                                        [VR_THING_TOKEN] = look_at_token};
    VrOutsideLook look = {.outside = outside,
                          .question = question,
                          .now_us = vr_clock_wall_us(),
                          .findings = g_ptr_array_new_with_free_func((GDestroyNotify)vr_finding_free)};

    for (guint i = 0; i < outside->things->len; i++) {
        const VrThing *thing = outside->things->pdata[i];
        if (thing->kind != VR_THING_URL)
            lookers[thing->kind](&look, thing);
    }
    vr_outside_look_at_urls(&look);
    if (!question->border)
        note_passed(outside, look.findings);
    return look.findings;
}
