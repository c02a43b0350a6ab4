/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* The gallery: list, info, verify, exclude, include. */
#include "base/error.h"
#include "disk/image_boot.h"
#include "disk/version.h"
#include "orchestrator/cli/gallery.h"
#include "orchestrator/cli/output.h"
#include "orchestrator/cli/run_view.h"

/* --- JSON -------------------------------------------------------------------------------------------- */

static json_t *users_json(const GPtrArray *users)
{
    json_t *list = json_array();

    for (guint i = 0; i < users->len; i++) {
        const VrUser *user = users->pdata[i];
        json_t *how = json_array();
        for (guint j = 0; j < user->how->len; j++)
            json_array_append_new(how, vr_json_text(user->how->pdata[j]));
        json_array_append_new(list, json_pack("{s:o, s:o}", "name", vr_json_text(user->who), "how", how));
    }
    return list;
}

/* Of a damaged version nothing but its name is known. */
static void blank(json_t *document)
{
    static const char *const unknown[] = {"path",         "format",       "fileSizeBytes", "virtualSizeBytes",
                                          "sourceDigest", "storedDigest", "rulesVersion",  "publishedAt"};

    for (gsize i = 0; i < G_N_ELEMENTS(unknown); i++)
        json_object_set_new(document, unknown[i], json_null());
}

static json_t *state_json(const VrVersionState *state, const VrInUse *in_use)
{
    const VrImage *image = state->image;
    g_autofree char *reason = vr_version_ineligible(state);
    g_autoptr(GPtrArray) users = vr_in_use_of(in_use, image->name, image->version);
    json_t *document = vr_image_json(image);

    if (state->damage)
        blank(document);
    json_object_update_new(
        document, json_pack("{s:o, s:o, s:I, s:I}", "signatureKeyId", vr_json_text(image->signature_key),
                            "signatureComment", vr_json_text(image->signed_comment), "realSizeBytes",
                            (json_int_t)state->real_bytes, "sharedSizeBytes", (json_int_t)state->shared_bytes));
    json_object_update_new(document,
                           json_pack("{s:b, s:o, s:i, s:o}", "eligible", reason == NULL, "reason", vr_json_text(reason),
                                     "useCount", (int)users->len, "usedBy", users_json(users)));
    return document;
}

/* --- image-list -------------------------------------------------------------------------------------- */

static void list_row(VrTable *table, const VrVersionState *state, const VrInUse *in_use)
{
    const VrImage *image = state->image;
    g_autofree char *size = vr_text_size(image->virtual_size);
    g_autofree char *in_file = vr_text_size(image->file_size);
    g_autofree char *on_disk = vr_text_size(state->real_bytes);
    g_autofree char *reason = vr_version_ineligible(state);
    g_autoptr(GPtrArray) users = vr_in_use_of(in_use, image->name, image->version);
    g_autofree char *used = users->len ? vr_text_number(users->len) : NULL;
    gboolean known = !state->damage;
    const char *const cells[] = {image->name,
                                 image->version,
                                 known ? vr_image_format_name(image->format) : NULL,
                                 known ? size : NULL,
                                 known ? in_file : NULL,
                                 known ? on_disk : NULL,
                                 known ? image->published_at : NULL,
                                 used,
                                 reason ? reason : "yes"};

    vr_table_row(table, cells);
}

static void list_table(const VrCli *cli, const GPtrArray *states, const VrInUse *in_use)
{
    static const char *const headings[] = {"NAME",     "VERSION",   "FORMAT",   ">SIZE",    ">IN FILE",
                                           ">ON DISK", "PUBLISHED", ">USED BY", "ELIGIBLE", NULL};
    g_autoptr(VrTable) table = vr_table_new(cli, headings);

    for (guint i = 0; i < states->len; i++)
        list_row(table, states->pdata[i], in_use);
    vr_table_print(table);
    if (states->len == 0)
        vr_tell(cli, "no image is published yet; '%s image-publish --help' says how", VR_PROGRAM);
}

/* By its name, or by its second one. FALSE: none, or half of one, was given as it should be. *name: NULL for all of them. */
static gboolean find_listed(const VrSession *session, char **name, GError **error)
{
    const VrCliOptions *options = &session->cli->options;
    guint given = !!options->publisher + !!options->offer + !!options->sku;

    *name = g_strdup(session->cli->args[0]);
    if (given == 0)
        return TRUE;
    if (given < 3 || *name) {
        g_set_error(error, VR_ERROR, VR_ERROR_USAGE,
                    "an image is listed by its NAME, or by --publisher, --offer and --sku together");
        return FALSE;
    }
    *name = vr_store_find_name(session->store, options->publisher, options->offer, options->sku, error);
    return *name != NULL;
}

gboolean vr_cmd_image_list(const VrCli *cli, GError **error)
{
    g_auto(VrSession) session = {0};
    g_autofree char *name = NULL;
    g_autoptr(GPtrArray) states = NULL;
    g_autoptr(VrInUse) in_use = NULL;
    json_t *list;

    if (!vr_session_open_read(&session, cli, error) || !find_listed(&session, &name, error))
        return FALSE;
    states = vr_store_survey(session.store, name, error);
    in_use = states ? vr_gallery_uses(&session, FALSE, error) : NULL;
    if (!in_use)
        return FALSE;
    if (!cli->options.json) {
        list_table(cli, states, in_use);
        return TRUE;
    }
    list = json_array();
    for (guint i = 0; i < states->len; i++)
        json_array_append_new(list, state_json(states->pdata[i], in_use));
    vr_json_print(json_pack("{s:o}", "images", list));
    return TRUE;
}

/* --- image-info -------------------------------------------------------------------------------------- */

/* "BIOS, UEFI" as far as the first sectors say (B22). Free with g_free. */
static char *boots_by(const VrImageBoot *boot)
{
    return g_strdup_printf("%s%s%s", boot->bios ? "BIOS" : "", boot->bios && boot->uefi ? ", " : "",
                           boot->uefi   ? "UEFI"
                           : boot->bios ? ""
                                        : "no boot code, no EFI system partition");
}

/* The loaders that firmware finds by itself. Free with g_free. */
static char *fallback_of(const VrImageBoot *boot)
{
    g_autoptr(GString) text = g_string_new(NULL);

    if (!boot->loaders_known)
        return g_strdup("not known");
    for (guint i = 0; i < boot->n_loaders; i++)
        g_string_append_printf(text, "%s%s (%s)", i ? ", " : "", boot->loaders[i].path,
                               boot->loaders[i].arch ? boot->loaders[i].arch : "no loader that is known");
    return g_strdup(text->len ? text->str : "none");
}

/* As image.json has it, but for a name without its unit. */
static json_t *boot_json(const VrImageBoot *boot)
{
    json_t *document = boot ? vr_image_boot_to_json(boot) : json_null();

    if (boot) {
        json_object_set(document, "sectorSizeBytes", json_object_get(document, "sectorSize"));
        json_object_del(document, "sectorSize");
    }
    return document;
}

/* boot NULL: it could not be read. */
static void info_lines(const VrCli *cli, const VrVersionState *state, const VrInUse *in_use, const VrImageBoot *boot)
{
    const VrImage *image = state->image;
    g_autofree char *size = vr_text_size(image->virtual_size);
    g_autofree char *in_file = vr_text_size(image->file_size);
    g_autofree char *on_disk = vr_text_size(state->real_bytes);
    g_autofree char *shared = vr_text_size(state->shared_bytes);
    g_autofree char *reason = vr_version_ineligible(state);
    g_autoptr(GPtrArray) users = vr_in_use_of(in_use, image->name, image->version);
    g_autofree char *used = users->len ? vr_in_use_text(users) : NULL;
    g_autofree char *boots = boot ? boots_by(boot) : NULL;
    g_autofree char *fallback = boot && boot->uefi ? fallback_of(boot) : NULL;

    vr_label(cli, "Name", image->name);
    vr_label(cli, "Version", image->version);
    vr_label(cli, "Publisher", image->publisher);
    vr_label(cli, "Offer", image->offer);
    vr_label(cli, "SKU", image->sku);
    vr_label(cli, "Path", image->path);
    vr_label(cli, "Format", vr_image_format_name(image->format));
    vr_label(cli, "Size", size);
    vr_label(cli, "In file", in_file);
    vr_label_format(cli, "On disk", "%s, of it shared %s", on_disk, shared);
    vr_label(cli, "Boots by", boots);
    vr_label(cli, "Architecture", boot ? boot->arch : NULL);
    vr_label(cli, "UEFI fallback", fallback);
    vr_label_format(cli, "Source digest", "sha256:%s", image->source_digest);
    vr_label_format(cli, "Stored digest", "sha256:%s", image->stored_digest);
    vr_label(cli, "Signed by key", image->signature_key);
    vr_label(cli, "Signed comment", image->signed_comment);
    vr_label_format(cli, "Rules", "%d", image->rules_version);
    vr_label(cli, "Published", image->published_at);
    vr_label(cli, "Excluded", !image->excluded ? "no" : image->excluded_reason ? image->excluded_reason : "yes");
    vr_label(cli, "Eligible", reason ? reason : "yes");
    vr_label(cli, "Used by", used);
}

gboolean vr_cmd_image_info(const VrCli *cli, GError **error)
{
    g_auto(VrSession) session = {0};
    g_autoptr(GPtrArray) states = NULL;
    g_autoptr(VrInUse) in_use = NULL;
    g_autoptr(VrImage) image = NULL;
    const VrVersionState *state;
    VrImageBoot read;
    const VrImageBoot *boot;

    if (!vr_session_open_read(&session, cli, error))
        return FALSE;
    image = vr_store_get(session.store, cli->args[0], cli->args[1], error); /* a damaged one is an error */
    states = image ? vr_store_survey(session.store, image->name, error) : NULL;
    state = states ? vr_gallery_find(&session, states, image->name, image->version, error) : NULL;
    in_use = state ? vr_gallery_uses(&session, FALSE, error) : NULL;
    if (!in_use)
        return FALSE;
    boot = vr_image_boot_read(session.store, image, &read, NULL) ? &read : NULL;
    if (cli->options.json) {
        json_t *document = state_json(state, in_use);
        json_object_set_new(document, "boot", boot_json(boot));
        vr_json_print(document);
    } else {
        info_lines(cli, state, in_use, boot);
    }
    return TRUE;
}

/* --- image-verify ------------------------------------------------------------------------------------ */

static json_t *findings_json(const VrImage *image, const GPtrArray *findings)
{
    json_t *list = json_array();

    for (guint i = 0; i < findings->len; i++)
        json_array_append_new(list, vr_json_text(findings->pdata[i]));
    return json_pack("{s:o, s:o, s:b, s:o}", "name", vr_json_text(image->name), "version", vr_json_text(image->version),
                     "whole", findings->len == 0, "findings", list);
}

static void say_findings(const VrCli *cli, const VrImage *image, const GPtrArray *findings)
{
    vr_say(cli, "%s %s: %s", image->name, image->version, findings->len ? "damaged" : "whole");
    for (guint i = 0; i < findings->len; i++)
        vr_say(cli, "  %s", (const char *)findings->pdata[i]);
}

/* only: NULL, or the one version that was asked for. */
static gboolean verify_all(const VrSession *session, const GPtrArray *states, const VrVersionState *only, json_t *list,
                           guint *damaged, GError **error)
{
    for (guint i = 0; i < states->len; i++) {
        const VrVersionState *state = states->pdata[i];
        g_autoptr(GPtrArray) findings = NULL;
        if (only && state != only)
            continue;
        findings = vr_store_inspect(session->store, state->image->name, state->image->version, error);
        if (!findings)
            return FALSE;
        *damaged += findings->len > 0;
        say_findings(session->cli, state->image, findings);
        json_array_append_new(list, findings_json(state->image, findings));
    }
    return TRUE;
}

static gboolean verify_result(const VrCli *cli, guint damaged, GError **error)
{
    if (damaged == 0)
        return TRUE;
    g_set_error(error, VR_ERROR, VR_ERROR_REFUSED, "%u version%s of %s %s damaged", damaged, damaged == 1 ? "" : "s",
                cli->args[0], damaged == 1 ? "is" : "are");
    vr_error_next(error, "take %s out of runs ('%s image-exclude'), and publish the image anew under another version",
                  damaged == 1 ? "it" : "those", VR_PROGRAM);
    return FALSE;
}

gboolean vr_cmd_image_verify(const VrCli *cli, GError **error)
{
    g_auto(VrSession) session = {0};
    g_autoptr(GPtrArray) states = NULL;
    g_autoptr(json_t) list = json_array();
    const VrVersionState *only = NULL;
    guint damaged = 0;

    if (!vr_session_open_read(&session, cli, error))
        return FALSE;
    states = vr_store_survey(session.store, cli->args[0], error);
    if (!states)
        return FALSE;
    if (cli->args[1] && !(only = vr_gallery_find(&session, states, cli->args[0], cli->args[1], error)))
        return FALSE;
    if (!verify_all(&session, states, only, list, &damaged, error))
        return FALSE;
    if (cli->options.json)
        vr_json_print(json_pack("{s:O}", "versions", list));
    return verify_result(cli, damaged, error);
}

/* --- image-exclude, image-include -------------------------------------------------------------------- */

static gboolean set_excluded(const VrCli *cli, gboolean excluded, GError **error)
{
    const char *name = cli->args[0], *version = cli->args[1];
    const char *what = excluded ? "excluded" : "included";
    g_auto(VrSession) session = {0};
    g_autoptr(GPtrArray) states = NULL;
    const VrVersionState *state;

    if (!vr_version_check(version, error) || !vr_session_open(&session, cli, error))
        return FALSE;
    /* Not vr_store_get(): a damaged version is the one that must be excluded. */
    states = vr_store_survey(session.store, name, error);
    state = states ? vr_gallery_find(&session, states, name, version, error) : NULL;
    if (!state)
        return FALSE;
    if (cli->options.dry_run) {
        vr_say(cli, "%s %s would be %s", name, state->image->version, what);
        return TRUE;
    }
    if (!vr_store_set_excluded(session.store, name, state->image->version, excluded, cli->options.reason, error))
        return FALSE;
    vr_session_touch(&session);
    vr_say(cli, "%s %s is %s", name, state->image->version, what);
    return TRUE;
}

gboolean vr_cmd_image_exclude(const VrCli *cli, GError **error)
{
    return set_excluded(cli, TRUE, error);
}

gboolean vr_cmd_image_include(const VrCli *cli, GError **error)
{
    return set_excluded(cli, FALSE, error);
}
