/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* image-delete and image-prune: a version goes only when nobody refers to it (SAFETY invariant 6). */
#include "base/error.h"
#include "disk/version.h"
#include "orchestrator/cli/gallery.h"
#include "orchestrator/cli/output.h"

/* A store that is not there is not made for this. */
static gboolean open_existing(VrSession *session, const VrCli *cli, GError **error)
{
    g_auto(VrSession) probe = {0};

    if (!vr_session_open_read(&probe, cli, error))
        return FALSE;
    vr_session_clear(&probe);
    return vr_session_open(session, cli, error);
}

static gboolean delete_version(const VrSession *session, const VrVersionState *state, GError **error)
{
    const VrImage *image = state->image;
    g_autofree char *size = vr_text_size(state->real_bytes - MIN(state->shared_bytes, state->real_bytes));

    if (session->cli->options.dry_run) {
        vr_say(session->cli, "%s %s would be deleted: %s", image->name, image->version, size);
        return TRUE;
    }
    if (!vr_store_delete(session->store, image->name, image->version, vr_gallery_still_free, NULL, error))
        return FALSE;
    vr_say(session->cli, "%s %s is deleted: %s", image->name, image->version, size);
    return TRUE;
}

/* --- image-delete ------------------------------------------------------------------------------------ */

static gboolean refuse_used(const VrInUse *in_use, const VrImage *image, GError **error)
{
    g_autoptr(GPtrArray) users = vr_in_use_of(in_use, image->name, image->version);
    g_autofree char *text = vr_in_use_text(users);
    g_autofree char *doubt = vr_in_use_doubt(in_use, image->name, image->version);

    if (users->len > 0) {
        g_set_error(error, VR_ERROR, VR_ERROR_REFUSED, "%s %s is in use by %s", image->name, image->version, text);
        vr_error_now(error, "nothing was deleted");
        vr_error_next(error, "'%s image-list %s' shows who uses each version; move those to another one first",
                      VR_PROGRAM, image->name);
    } else if (doubt) {
        g_set_error(error, VR_ERROR, VR_ERROR_REFUSED, "%s %s may be in use", image->name, image->version);
        vr_error_cause(error, "%s", doubt);
        vr_error_now(error, "nothing was deleted");
        vr_error_next(error, "make the file readable, or move it out of the store");
    }
    return users->len == 0 && !doubt;
}

gboolean vr_cmd_image_delete(const VrCli *cli, GError **error)
{
    const char *name = cli->args[0], *version = cli->args[1];
    g_auto(VrSession) session = {0};
    g_autoptr(GPtrArray) states = NULL;
    g_autoptr(VrInUse) in_use = NULL;
    const VrVersionState *state;

    if (!vr_name_check(name, "image", error) || !vr_version_check(version, error) ||
        !open_existing(&session, cli, error))
        return FALSE;
    states = vr_store_survey(session.store, name, error);
    state = states ? vr_gallery_find(&session, states, name, version, error) : NULL;
    in_use = state ? vr_gallery_uses(&session, TRUE, error) : NULL;
    return in_use && refuse_used(in_use, state->image, error) && delete_version(&session, state, error);
}

/* --- image-prune ------------------------------------------------------------------------------------- */

static gboolean parse_keep(const VrCli *cli, guint *keep, GError **error)
{
    guint64 number = 0;

    if (!cli->options.keep) {
        g_set_error_literal(error, VR_ERROR, VR_ERROR_USAGE, "say how many versions stay: --keep N");
        vr_error_next(error, "'%s %s --help' says more", VR_PROGRAM, cli->command->name);
        return FALSE;
    }
    if (g_ascii_string_to_unsigned(cli->options.keep, 10, 1, 100000, &number, NULL)) {
        *keep = (guint)number;
        return TRUE;
    }
    g_autofree char *shown = vr_printable(cli->options.keep, -1);
    g_set_error(error, VR_ERROR, VR_ERROR_USAGE, "--keep %s: it needs a number from 1 to 100000", shown);
    return FALSE;
}

typedef struct {
    json_t *stay, *go; /* owned */
    guint left;        /* versions that may still stay by their number */
    gboolean first;
} Prune;

/* Why a version stays whatever it is; NULL: it may go. Free with g_free. Newest first: until N eligible ones were met, all stay,
 * so that one that was excluded or is damaged does not take the place of one that works. */
static char *why_kept(Prune *prune, const VrVersionState *state, const VrInUse *in_use)
{
    g_autofree char *ineligible = vr_version_ineligible(state);
    g_autoptr(GPtrArray) users = vr_in_use_of(in_use, state->image->name, state->image->version);
    gboolean newest = prune->first, among = prune->left > 0;
    g_autofree char *text = users->len ? vr_in_use_text(users) : NULL;
    g_autofree char *doubt = vr_in_use_doubt(in_use, state->image->name, state->image->version);

    prune->first = FALSE;
    if (among && !ineligible)
        prune->left--;
    if (text)
        return g_strdup_printf("in use by %s", text);
    if (newest || among)
        return g_strdup(newest ? "the newest" : "among those to keep");
    return doubt ? g_strdup_printf("it may be in use: %s", doubt) : NULL;
}

static gboolean prune_one(const VrSession *session, Prune *prune, const VrVersionState *state, const VrInUse *in_use,
                          GError **error)
{
    const VrImage *image = state->image;
    g_autoptr(GError) local = NULL;
    g_autofree char *why = why_kept(prune, state, in_use);

    if (!why && !delete_version(session, state, &local)) {
        if (!g_error_matches(local, VR_ERROR, VR_ERROR_REFUSED)) {
            g_propagate_error(error, g_steal_pointer(&local));
            return FALSE;
        }
        why = g_strdup(local->message); /* somebody began to use it just now */
    }
    json_array_append_new(why ? prune->stay : prune->go,
                          json_pack("{s:o, s:o, s:o}", "name", vr_json_text(image->name), "version",
                                    vr_json_text(image->version), "reason", vr_json_text(why)));
    if (why)
        vr_say(session->cli, "%s %s stays: %s", image->name, image->version, why);
    return TRUE;
}

static gboolean prune_all(const VrSession *session, const GPtrArray *states, const VrInUse *in_use, guint keep,
                          GError **error)
{
    g_autoptr(json_t) stay = json_array();
    g_autoptr(json_t) go = json_array();
    Prune prune = {.stay = stay, .go = go, .left = keep, .first = TRUE};
    gboolean ok = TRUE;

    for (guint i = 0; ok && i < states->len; i++)
        ok = prune_one(session, &prune, states->pdata[i], in_use, error);
    if (session->cli->options.json)
        vr_json_print(
            json_pack("{s:b, s:O, s:O}", "dryRun", session->cli->options.dry_run, "deleted", go, "kept", stay));
    return ok;
}

gboolean vr_cmd_image_prune(const VrCli *cli, GError **error)
{
    g_auto(VrSession) session = {0};
    g_autoptr(GPtrArray) states = NULL;
    g_autoptr(VrInUse) in_use = NULL;
    guint keep;

    if (!parse_keep(cli, &keep, error) || !vr_name_check(cli->args[0], "image", error) ||
        !open_existing(&session, cli, error))
        return FALSE;
    states = vr_store_survey(session.store, cli->args[0], error);
    in_use = states ? vr_gallery_uses(&session, TRUE, error) : NULL;
    return in_use && prune_all(&session, states, in_use, keep, error);
}
